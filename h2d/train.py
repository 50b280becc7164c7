"""From a checked experiment to a trained network: ``build`` makes the parts, ``train`` runs them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from h2d import __version__
from h2d.callbacks import build_callbacks
from h2d.checkpoints import AtomicCheckpointIO, check_resumable
from h2d.config import Experiment
from h2d.data.datamodule import ShardDataModule
from h2d.data.shards import Manifest, read_manifests
from h2d.errors import CheckpointError, DataError, SetupError
from h2d.files import holding
from h2d.runs import choose_checkpoint, commit, run_folder, step_of, write_records
from h2d.tasks import build_task
from h2d.tasks.base import DiffusionTask
from h2d.tasks.hand import HandGenerator
from h2d.tasks.outpaint import Outpainter


@dataclass(frozen=True)
class Run:
    """Everything that trains."""

    task: DiffusionTask
    data: L.LightningDataModule
    trainer: L.Trainer
    folder: Path


def train(experiment: Experiment, resume: str = "never") -> Path:
    """Train and return the run's folder.

    Args:
        experiment: as :func:`h2d.config.compose` checked it.
        resume: ``auto``, ``never`` or a checkpoint file, see :func:`h2d.runs.choose_checkpoint`.

    Raises:
        H2DError: the data, the base model or the checkpoint is not what it should be.
    """
    folder = run_folder(experiment)
    checkpoint = choose_checkpoint(folder, resume)
    _check_partner(experiment)
    experiment = with_total_steps(experiment, read_manifests(experiment.data.shards))
    if checkpoint and (step := check_resumable(checkpoint, experiment)) >= experiment.trainer.max_steps:
        _say(f"{folder} is complete: its checkpoint is of step {step:,} of {experiment.trainer.max_steps:,}")
        return folder
    torch.set_float32_matmul_precision("high")
    run = build(experiment)
    with holding(folder, "another training") if run.trainer.is_global_zero else nullcontext():
        if run.trainer.is_global_zero:
            _say(f"resuming {checkpoint} at step {step_of(checkpoint):,}" if checkpoint else f"training into {folder}")
            write_records(folder, experiment, checkpoint)
        _fit(run, checkpoint)
    if run.trainer.is_global_zero:
        _say(f"trained {run.trainer.global_step:,} steps: {folder}")
    return folder


def _check_partner(experiment: Experiment) -> None:
    """Notice a missing checkpoint before the networks are loaded, and in a dry run."""
    partner = experiment.evaluation.partner
    if partner is not None and not Path(partner).is_file():
        raise CheckpointError(
            f"evaluation.partner={partner} does not exist", "train the other stage first, or leave it out"
        )


def _fit(run: Run, checkpoint: Path | None) -> None:
    try:
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        if run.trainer.interrupted:  # Lightning turns Ctrl-C into an exit with status 1
            raise KeyboardInterrupt from None
        raise


def build(experiment: Experiment) -> Run:
    """Task, data and trainer of an experiment whose ``trainer.max_steps`` is settled."""
    L.seed_everything(experiment.seed, workers=True, verbose=False)
    task = build_task(experiment)
    task.train()  # pre-trained networks come in evaluation mode, and Lightning leaves that as it is
    apply_switches(task)
    manifest = read_manifests(experiment.data.shards)
    task.made_by = {"h2d": __version__, "commit": commit(), "data": dict(manifest.sources)}
    data = ShardDataModule(experiment, task.factor)
    if isinstance(task, HandGenerator | Outpainter):
        data.check_vae(task.parts)
    return Run(task, data, build_trainer(experiment), run_folder(experiment))


def apply_switches(task: DiffusionTask) -> None:
    """Memory order, gradient checkpointing and compilation of the networks that gradients pass through."""
    settings = task.experiment.trainer
    for network in task.networks:
        if settings.channels_last:
            nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()  # type: ignore[operator]
        if settings.compile:
            network.compile()


def build_trainer(experiment: Experiment) -> L.Trainer:
    """Lightning's trainer; it counts in optimiser steps, since the training stream has no end.

    Raises:
        SetupError: this machine lacks the devices that are asked for.
    """
    settings = experiment.trainer
    try:
        return _trainer(experiment)
    except MisconfigurationException as error:
        wanted = f"trainer.accelerator={settings.accelerator} trainer.devices={settings.devices}"
        reason = str(error).strip().splitlines()[0]
        raise SetupError(f"{wanted}: {reason}", "`h2d doctor` lists the devices of this machine") from error


def _trainer(experiment: Experiment) -> L.Trainer:
    settings, folder = experiment.trainer, run_folder(experiment)
    return L.Trainer(
        default_root_dir=folder,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=_strategy(experiment),
        precision=settings.precision,
        max_steps=settings.max_steps,
        max_epochs=-1,
        accumulate_grad_batches=experiment.accumulation,
        gradient_clip_val=experiment.optim.grad_clip or None,
        val_check_interval=settings.val_every_n_steps * experiment.accumulation,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=-1,  # where the losses start from, on the same samples as later
        log_every_n_steps=settings.log_every_n_steps,
        logger=TensorBoardLogger(folder, name="", version="", default_hp_metric=False),
        callbacks=build_callbacks(experiment),
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _strategy(experiment: Experiment) -> Strategy | str:
    """Gradients are averaged over the ranks; one that waits too long for another ends, and so do all."""
    if experiment.world_size == 1:
        return "auto"
    wait = timedelta(seconds=experiment.trainer.timeout_s)
    return DDPStrategy(timeout=wait, broadcast_buffers=False, gradient_as_bucket_view=True)


def with_total_steps(experiment: Experiment, manifest: Manifest) -> Experiment:
    """The experiment with ``trainer.max_steps`` settled: the earlier of ``max_steps`` and ``max_epochs``.

    Raises:
        DataError: there is nothing to train on.
    """
    if not manifest.counts.get("train"):
        has = ", ".join(f"{count:,} {split}" for split, count in manifest.counts.items())
        raise DataError(f"{experiment.data.shards} has no samples in the split train", f"it has {has}")
    steps, epochs = experiment.trainer.max_steps, experiment.trainer.max_epochs
    if epochs != -1:
        by_epochs = max(1, epochs * manifest.counts["train"] // experiment.trainer.global_batch)
        steps = by_epochs if steps == -1 else min(steps, by_epochs)
    return replace(experiment, trainer=replace(experiment.trainer, max_steps=steps, max_epochs=-1))


def describe(experiment: Experiment, resume: str = "never") -> str:
    """What training would do, without doing it: data, steps, batch, folder and the size of the networks."""
    manifest = read_manifests(experiment.data.shards)
    checkpoint = choose_checkpoint(run_folder(experiment), resume)
    _check_partner(experiment)
    settled = with_total_steps(experiment, manifest)
    task, settings = build_task(settled), settled.trainer
    trained = sum(parameter.numel() for parameter in task.parameters() if parameter.requires_grad)
    frozen = sum(parameter.numel() for network in task.held.networks for parameter in network.parameters())
    counts = ", ".join(f"{count:,} {split}" for split, count in manifest.counts.items())
    epochs = settings.max_steps * settings.global_batch / manifest.counts["train"]
    start = f"resumes {checkpoint}" if checkpoint else "starts afresh"
    return "\n".join(
        [
            f"run       {run_folder(settled)}, {start}",
            f"data      {settled.data.shards}: {counts}",
            f"steps     {settings.max_steps:,} = {epochs:,.1f} passes over the data",
            f"batch     {settings.global_batch} = {settings.devices} devices x {settings.num_nodes} nodes x "
            f"{settled.micro_batch} samples x {settled.accumulation} accumulated",
            f"networks  {trained:,} parameters trained, {frozen:,} frozen",
        ]
    )


def _say(text: str) -> None:
    print(text, flush=True)

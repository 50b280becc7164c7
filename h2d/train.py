"""From a checked experiment to a trained network: ``build`` makes the parts, ``train`` runs them."""

from __future__ import annotations

import signal
import subprocess
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from h2d import __version__
from h2d.board import Board
from h2d.callbacks import build_callbacks
from h2d.checkpoints import AtomicCheckpointIO
from h2d.config import Experiment
from h2d.data.datamodule import ShardDataModule
from h2d.data.shards import read_manifests
from h2d.errors import H2DError, SetupError
from h2d.files import holding
from h2d.plan import with_total_steps
from h2d.resume import check_resumable, data_fingerprint
from h2d.runs import check_partner, choose_checkpoint, commit, prepare_folder, run_folder, write_records
from h2d.slurm import Task
from h2d.stopping import StoppedError, end_children
from h2d.tasks import build_task
from h2d.tasks.base import DiffusionTask
from h2d.tasks.hand import HandGenerator
from h2d.tasks.outpaint import Outpainter
from h2d.tasks.text_to_image import TextToImage

LAST_WORDS_S = 5
"""Seconds that a rank has for its own error message when another one has failed."""


class RankLostError(H2DError):
    """A process of a distributed training is gone."""

    exit_code = 1


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
        StoppedError: a stop was requested, see :class:`h2d.stop_on_request.StopOnRequest`.
    """
    folder = run_folder(experiment)
    checkpoint = choose_checkpoint(folder, resume)
    check_partner(experiment)
    manifest = read_manifests(experiment.data.shards)
    experiment = with_total_steps(experiment, manifest)
    step = check_resumable(checkpoint, experiment, manifest) if checkpoint else 0
    if step >= experiment.trainer.max_steps:
        _say(f"{folder} is complete: its checkpoint is of step {step:,} of {experiment.trainer.max_steps:,}")
        return folder
    torch.set_float32_matmul_precision("high")
    run = build(experiment, first_step=step)
    with holding(folder, "another training") if run.trainer.is_global_zero else nullcontext():
        if run.trainer.is_global_zero:
            prepare_folder(folder)
            _say(f"resuming {checkpoint} at step {step:,}" if checkpoint else f"training into {folder}")
            write_records(folder, experiment, checkpoint)
        _fit(run, checkpoint)
    if run.trainer.is_global_zero:
        _say(f"trained {run.trainer.global_step:,} steps: {folder}")
    return folder


def _fit(run: Run, checkpoint: Path | None) -> None:
    try:
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
    except StoppedError:
        if run.trainer.is_global_zero:  # srun ends all ranks when one fails, and this one may still be closing files
            raise
    except SystemExit:
        if run.trainer.interrupted:  # Lightning turns Ctrl-C into an exit with status 1
            raise KeyboardInterrupt from None
        raise
    except Exception as error:
        _end_other_ranks(run.trainer)
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise _lost(run, error) from error
        raise
    finally:
        end_children()


def _end_other_ranks(trainer: L.Trainer) -> None:
    """Let the ranks that this process started say what is wrong with them, and end those that hang."""
    launcher = trainer.strategy.launcher
    for process in getattr(launcher, "procs", ()):
        with suppress(subprocess.TimeoutExpired):
            process.wait(LAST_WORDS_S)
    if launcher:
        launcher.kill(signal.SIGKILL)  # a rank that hangs hears nothing else


def _lost(run: Run, error: Exception) -> RankLostError:
    reason = str(error).strip().splitlines()[0]
    return RankLostError(
        f"rank {run.trainer.global_rank}: another rank ended, or did not answer for trainer.timeout_s="
        f"{run.task.experiment.trainer.timeout_s} seconds: {reason}",
        "what the other ranks printed says why; --resume auto goes on from the last checkpoint",
    )


def build(experiment: Experiment, first_step: int = 0) -> Run:
    """Task, data and trainer of an experiment whose ``trainer.max_steps`` is settled.

    Args:
        experiment: checked.
        first_step: optimiser steps that are done already.
    """
    L.seed_everything(experiment.seed, workers=True, verbose=False)
    task = build_task(experiment)
    task.train()  # pre-trained networks come in evaluation mode, and Lightning leaves that as it is
    apply_switches(task)
    manifest = read_manifests(experiment.data.shards)
    shards = data_fingerprint(manifest)
    task.made_by = {"h2d": __version__, "commit": commit(), "data": dict(manifest.sources), "shards": shards}
    data = ShardDataModule(experiment, task.factor)
    if isinstance(task, HandGenerator | Outpainter):
        data.check_vae(task.parts)
    _halve(task)
    return Run(task, data, build_trainer(experiment, first_step), run_folder(experiment))


def _halve(task: DiffusionTask) -> None:
    """Frozen networks in the precision that they compute in anyway; trained ones stay in float32."""
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(task.experiment.trainer.precision)
    if half is None:
        return
    if isinstance(task, HandGenerator | Outpainter | TextToImage):
        task.parts.to(dtype=half)  # which remembers the digest of the float32 VAE
    for network in task.held.networks:
        nn.Module.to(network, dtype=half)


def apply_switches(task: DiffusionTask) -> None:
    """Memory order of all networks, gradient checkpointing and compilation of those that gradients pass through."""
    settings = task.experiment.trainer
    for network in (*task.networks, *task.held.networks) if settings.channels_last else ():
        nn.Module.to(network, memory_format=torch.channels_last)
    for network in task.networks:
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()  # type: ignore[operator]
        if settings.compile:
            network.compile()


def build_trainer(experiment: Experiment, first_step: int = 0) -> L.Trainer:
    """Lightning's trainer; it counts in optimiser steps, since the training stream has no end.

    Raises:
        SetupError: this machine lacks the devices that are asked for.
    """
    settings = experiment.trainer
    try:
        return _trainer(experiment, first_step)
    except MisconfigurationException as error:
        wanted = f"trainer.accelerator={settings.accelerator} trainer.devices={settings.devices}"
        reason = str(error).strip().splitlines()[0]
        raise SetupError(f"{wanted}: {reason}", "`h2d doctor` lists the devices of this machine") from error


def _trainer(experiment: Experiment, first_step: int) -> L.Trainer:
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
        logger=Board(folder, first_step),
        callbacks=build_callbacks(experiment),
        plugins=[AtomicCheckpointIO(), *_environment()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _environment() -> list[SLURMEnvironment]:
    """Under Slurm, without Lightning's own requeue: it saves inside a signal handler, where ranks hang."""
    return [SLURMEnvironment(auto_requeue=False)] if Task.read() and SLURMEnvironment.detect() else []


def _strategy(experiment: Experiment) -> Strategy | str:
    """Gradients are averaged over the ranks; one that waits too long for another ends, and so do all."""
    if experiment.world_size == 1:
        return "auto"
    wait = timedelta(seconds=experiment.trainer.timeout_s)
    return DDPStrategy(timeout=wait, broadcast_buffers=False, gradient_as_bucket_view=True)


def _say(text: str) -> None:
    print(text, flush=True)

"""``h2d train --dry-run``: what training would do and need, without loading a weight or asking the hub."""

from __future__ import annotations

import shutil
from dataclasses import replace

from h2d.data.shards import Manifest, read_manifests
from h2d.errors import DataError
from h2d.experiment import Experiment
from h2d.memory import AVERAGE, MOMENTS, WEIGHT, Memory, estimate
from h2d.resume import check_resumable
from h2d.runs import check_partner, choose_checkpoint, run_folder


def describe(experiment: Experiment, resume: str = "never") -> str:
    """Data, steps, batch, folder, networks, memory, operations and disk space of a training.

    Raises:
        H2DError: the data, the base model or the checkpoint is not what it should be.
    """
    manifest = read_manifests(experiment.data.shards)
    checkpoint = choose_checkpoint(run_folder(experiment), resume)
    check_partner(experiment)
    settled = with_total_steps(experiment, manifest)
    step = check_resumable(checkpoint, settled, manifest) if checkpoint else 0
    memory, settings = estimate(settled), settled.trainer
    counts = ", ".join(f"{count:,} {split}" for split, count in manifest.counts.items())
    epochs = settings.max_steps * settings.global_batch / manifest.counts["train"]
    start = f"resumes {checkpoint}" if checkpoint else "starts afresh"
    start = start if step < settings.max_steps else f"is complete at step {step:,}: there is nothing to do"
    return "\n".join(
        [
            f"run       {run_folder(settled)}, {start}",
            f"data      {settled.data.shards}: {counts}",
            f"steps     {settings.max_steps:,} = {epochs:,.1f} passes over the data",
            f"batch     {settings.global_batch} = {settings.devices} devices x {settings.num_nodes} nodes x "
            f"{settled.micro_batch} samples x {settled.accumulation} accumulated",
            f"networks  {_networks(memory)}",
            f"memory    {memory}",
            f"compute   {_compute(settled, memory)}",
            f"disk      {_disk(settled, memory)}",
        ]
    )


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


def checkpoint_bytes(experiment: Experiment, trained: int) -> int:
    """Size of one checkpoint: weights and AdamW's moments, and the averaged weights where the run keeps them."""
    average = AVERAGE if experiment.optim.ema_decay is not None else 0
    return (WEIGHT + MOMENTS + average) * trained


def _networks(memory: Memory) -> str:
    text = f"{memory.trained:,} parameters trained, {memory.frozen:,} frozen"
    if memory.missing:
        text += f" ({', '.join(memory.missing)} is not on this machine yet: `h2d doctor --fetch`)"
    return text


def _compute(experiment: Experiment, memory: Memory) -> str:
    cached, settings = experiment.data.latents is not None, experiment.trainer
    each = memory.step + (0 if cached else memory.encoding)
    text = f"{memory.step / 1e12:.3g} TFLOP a sample"
    if not cached and memory.encoding:
        text += f" + {memory.encoding / 1e12:.3g} that data.latents spares"
    return f"{text}, {each * settings.global_batch * settings.max_steps / 1e18:.3g} EFLOP in all"


def _disk(experiment: Experiment, memory: Memory) -> str:
    """Room that checkpoints take: the one that is being written lies beside those that are kept."""
    settings, one = experiment.checkpoint, checkpoint_bytes(experiment, memory.trained)
    count = settings.keep + 1
    if settings.keep == -1:
        count = -(-experiment.trainer.max_steps // settings.every_n_steps)
    folder = run_folder(experiment).absolute()
    free = shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.exists())).free
    text = f"{count} x {one / 1e9:.2f} GB for checkpoints, {free / 1e9:.1f} GB free"
    return text if count * one <= free else f"{text}: NOT ENOUGH, lower checkpoint.keep or choose another run.dir"

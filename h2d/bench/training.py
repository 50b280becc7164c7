"""``h2d bench train``: a training step of h2d, of a bare loop around the same losses, and of diffusers' own script."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.flop_counter import FlopCounterMode

from h2d.bench.clock import by_turns, clock_of, unit_of
from h2d.bench.peak import peak_flops
from h2d.bench.peer import Peer
from h2d.bench.report import Row, Table
from h2d.experiment import Experiment
from h2d.tasks.base import DiffusionTask
from h2d.train import Run, build

WARM_UP = 3
"""Steps of each turn that do not count: memory is laid out, kernels are chosen."""
OURS, LOOP, CACHED, PEER = "h2d", "bare loop", "h2d, cached latents", "diffusers"


@dataclass(frozen=True)
class TrainRequest:
    """What ``h2d bench train`` was asked for; see its ``--help``."""

    experiment: Experiment
    latents: str | None
    against: Path | None
    steps: int
    rounds: int


def bench_training(request: TrainRequest) -> Table:
    """Seconds of an optimiser step, each way, by turns.

    Raises:
        H2DError: the data, the base model or the other script is not what it should be.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = _for_bench(request.experiment, Path(folder), WARM_UP + request.steps)
        ways: dict[str, Callable[[], Sequence[float]]] = {
            OURS: lambda: trainer_steps(plain),
            LOOP: lambda: loop_steps(plain),
        }
        if request.latents is not None:
            cached = replace(plain, data=replace(plain.data, latents=request.latents))
            ways[CACHED] = lambda: trainer_steps(cached)
        if request.against is not None:
            peer = Peer(request.against, plain, Path(folder) / "peer")
            ways[PEER] = lambda: peer.steps(WARM_UP)
        timings = by_turns(ways, request.rounds)
        flops, device = step_flops(plain)
    peak = peak_flops(device, plain.trainer.precision)
    base = timings.get(PEER, timings[LOOP])
    rows = [
        Row(
            name,
            timing,
            {
                "samples/s": plain.trainer.global_batch / timing.median,
                "ratio": base.median / timing.median,
                "MFU": flops / timing.median / peak if name in (OURS, LOOP) else None,
            },
        )
        for name, timing in timings.items()
    ]
    overhead = 1000 * (timings[OURS].median - timings[LOOP].median)
    notes = [
        f"{plain.task}, {plain.image_size} px, batches of {plain.micro_batch}, {plain.accumulation} to a step, "
        f"{plain.trainer.precision}",
        f"{flops / 1e12:.4f} TFLOP a step, counted; a matrix product reaches {peak / 1e12:.3f} TFLOP/s here",
        f"the trainer takes {overhead:.1f} ms more for a step than the bare loop",
        f"ratio: steps in the time of one of {PEER if PEER in timings else LOOP}",
    ]
    return Table("step", unit_of(device), rows, notes)


def _for_bench(experiment: Experiment, folder: Path, steps: int) -> Experiment:
    """The experiment without anything but steps, in this process alone, and written nowhere."""
    never = steps + 1
    trainer = replace(
        experiment.trainer,
        max_steps=steps,
        max_epochs=-1,
        val_every_n_steps=never,
        val_samples=1,
        devices=1,
        num_nodes=1,
    )
    return replace(
        experiment,
        run=replace(experiment.run, dir=str(folder), name="bench"),
        data=replace(experiment.data, latents=None, num_workers=experiment.data.num_workers if _gpu(experiment) else 0),
        trainer=trainer,
        checkpoint=replace(experiment.checkpoint, every_n_steps=never),
        evaluation=replace(experiment.evaluation, split="none", every_n_steps=0),
    )


def _gpu(experiment: Experiment) -> bool:
    """Whether it trains on a GPU; else loader processes would work outside of the CPU time that is measured."""
    return experiment.trainer.accelerator in ("auto", "gpu") and torch.cuda.is_available()


class _Stamps(L.Callback):
    """Notes the time after each optimiser step."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._now = clock_of(pl_module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            self.times.append(self._now())


def trainer_steps(experiment: Experiment) -> list[float]:
    """Seconds of the steps of a training as ``h2d train`` runs it, with its callbacks and its logging."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        run, stamps = build(experiment), _Stamps()
        run.trainer.callbacks.insert(-1, stamps)  # checkpoints come last
        run.trainer.fit(run.task, datamodule=run.data)
    return _between(stamps.times)


def loop_steps(experiment: Experiment) -> list[float]:
    """Seconds of the same steps in a plain loop, with the same losses, optimiser and batches."""
    run = build(experiment)
    task, device = run.task, _device(run)
    task.to(device)
    configured: Any = task.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    now, times = clock_of(device), []
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    batches = iter(run.data.train_dataloader())
    for _ in range(experiment.trainer.max_steps):
        for _ in range(experiment.accumulation):
            loss = _loss(run, next(batches), device)
            (loss / experiment.accumulation).backward()
        torch.nn.utils.clip_grad_norm_(parameters, experiment.optim.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        times.append(now())
    return _between(times)


def step_flops(experiment: Experiment) -> tuple[int, torch.device]:
    """Operations of an optimiser step, and the device that the experiment trains on."""
    run = build(experiment)
    device = _device(run)
    run.task.to(device)
    batch = next(iter(run.data.train_dataloader()))
    with FlopCounterMode(display=False, skip_unsupported=True) as counter:
        _loss(run, batch, device).backward()
    return counter.get_total_flops() * experiment.accumulation, device


def _loss(run: Run, batch: Any, device: torch.device) -> torch.Tensor:
    batch = run.data.on_before_batch_transfer(batch, 0)
    batch = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    task: DiffusionTask = run.task
    batch = run.data.on_after_batch_transfer(batch, 0)
    with run.trainer.precision_plugin.forward_context():
        return task.losses(batch, batch["rng"]).loss


def _device(run: Run) -> torch.device:
    return run.trainer.strategy.root_device


def _between(times: Sequence[float]) -> list[float]:
    """Seconds of the steps after the warm-up."""
    return [later - earlier for earlier, later in zip(times[WARM_UP - 1 :], times[WARM_UP:], strict=False)]

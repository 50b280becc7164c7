"""Numbers that tell whether a run is as fast and as healthy as it can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch

from h2d.clock import TrainingClock
from h2d.config import Experiment
from h2d.meters import BUCKETS, FlopMeter, NoiseErrors, take_peak_memory

WARM_UP = 10
"""Optimiser steps after each start that no speed is made of: caches fill, kernels are chosen or compiled."""


@dataclass
class Span:
    """A stretch of training: seconds, how many of them waited for data, and batches of one device."""

    seconds: float = 0.0
    waited: float = 0.0
    batches: float = 0.0

    def add(self, other: Span) -> None:
        """Append another stretch."""
        self.seconds += other.seconds
        self.waited += other.waited
        self.batches += other.batches


class Watch(L.Callback):
    """Logs speed, memory and noise errors every so many optimiser steps, and prints the whole run's at the end.

    ``speed/samples_per_s`` is of all devices, ``speed/step_s`` of an optimiser step, ``speed/data_wait`` the share of
    the time in [0, 1] in which training fetched data, ``speed/mfu`` what a device computed as a share of what it can
    (:class:`h2d.meters.FlopMeter`). ``memory/peak_gb`` (1e9 bytes) is of the device with the largest.
    ``noise/t_000_249`` and so on: mean noise error, without weights, of the samples of these time steps.

    The clock stands still during validation, sampling and checkpoints. A device is waited for when numbers are logged
    and when the clock stops, and at no other time.

    Args:
        experiment: ``trainer``, ``checkpoint`` and ``evaluation`` say when the clock stops and what a batch is.
    """

    def __init__(self, experiment: Experiment) -> None:
        settings = experiment.trainer
        self.experiment, self.every = experiment, settings.log_every_n_steps
        self.stops = {settings.val_every_n_steps, experiment.checkpoint.every_n_steps}
        self.stops |= {experiment.evaluation.every_n_steps} - {0}
        self._clock, self._whole = TrainingClock(), Span()
        self._flops: FlopMeter | None = None
        self._first = self._step = self._batches = 0
        self._peak = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen to the fetches of data, which Lightning announces to its profiler."""
        self._first = self._step = trainer.global_step
        settings = self.experiment.trainer
        trainer.profiler = self._clock
        self._noise = NoiseErrors(pl_module.device)
        self._flops = FlopMeter(pl_module.device, settings.precision, settings.compile)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the operations of the first batch."""
        assert self._flops is not None
        self._flops.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch, and log after every n-th step."""
        assert self._flops is not None
        self._flops.stop()
        if isinstance(outputs, dict) and "errors" in outputs:
            self._noise.add(outputs["timesteps"], outputs["errors"])
        self._batches += 1
        step = trainer.global_step
        if step == self._step:  # gradients are still accumulated
            return
        self._step = step
        stops = any(step % every == 0 for every in self.stops)
        if stops or step % self.every == 0 or step == self._first + WARM_UP:
            self._lap(pl_module.device, go_on=not stops)
        if step % self.every == 0:
            self._log(trainer, pl_module.device)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how fast the run was."""
        self._lap(pl_module.device, go_on=False)
        self._whole.add(self._take())
        self._peak = max(self._peak, take_peak_memory(pl_module.device) / 1e9)
        if trainer.is_global_zero:
            print(self._line(trainer.world_size), flush=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave nothing switched on."""
        if self._flops is not None:
            self._flops.stop()

    def _lap(self, device: torch.device, go_on: bool) -> None:
        """Bring the clock up to date with the device; what was counted until the warm-up ends is forgotten."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._clock.lap(go_on)
        if self._step <= self._first + WARM_UP:
            self._take()

    def _take(self) -> Span:
        span = Span(self._clock.seconds, self._clock.waited, self._batches)
        self._clock.reset()
        self._batches = 0
        return span

    def _log(self, trainer: L.Trainer, device: torch.device) -> None:
        """One exchange between the ranks, then the numbers."""
        span, peak = self._take(), take_peak_memory(device) / 1e9
        own = torch.tensor([peak, span.seconds, span.waited, span.batches], device=device)
        everyone = trainer.strategy.all_gather(torch.cat([own, self._noise.take().flatten()])).view(-1, 4 + 2 * BUCKETS)
        rows = everyone.cpu()
        peak, (sums, counts) = float(rows[:, 0].max()), rows[:, 4:].sum(dim=0).view(2, BUCKETS)
        span = Span(*rows[:, 1:4].mean(dim=0).tolist())
        self._whole.add(span)
        self._peak = max(self._peak, peak)
        noise = dict(zip(NoiseErrors.names, (sums / counts).tolist(), strict=True))
        numbers = {f"noise/{name}": noise[name] for name, count in zip(noise, counts, strict=True) if count}
        numbers |= {f"speed/{name}": value for name, value in self.speed(span, trainer.world_size).items()}
        assert trainer.logger is not None
        trainer.logger.log_metrics(numbers | {"memory/peak_gb": peak}, step=self._step - 1)

    def speed(self, span: Span, world_size: int) -> dict[str, float]:
        """What a stretch of training was like, by name; nothing when nothing was measured."""
        if not span.batches or not span.seconds:
            return {}
        samples = span.batches * self.experiment.micro_batch * world_size
        steps = span.batches / self.experiment.accumulation
        numbers = {
            "samples_per_s": samples / span.seconds,
            "step_s": span.seconds / steps,
            "data_wait": span.waited / span.seconds,
        }
        if self._flops is not None and self._flops.most and self._flops.counted:
            numbers["mfu"] = self._flops.counted * span.batches / span.seconds / self._flops.most
        return numbers

    def _line(self, world_size: int) -> str:
        speed = self.speed(self._whole, world_size)
        parts = [f"peak memory {self._peak:.1f} GB"]
        if not speed:
            parts.insert(0, f"not measured, which takes more than {WARM_UP} steps")
        else:
            parts[:0] = [f"{speed['samples_per_s']:.1f} samples/s", f"data wait {100 * speed['data_wait']:.0f} %"]
        if "mfu" in speed:
            parts.append(f"MFU {speed['mfu']:.2f}")
        return f"speed: {', '.join(parts)}"

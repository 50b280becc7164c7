"""Progress of training in optimiser steps: a bar on a terminal, plain lines in a log, and what it gained."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning as L
from tqdm import tqdm

_NO_LOSSES = ("train/lr", "train/grad_norm", "train/skipped")
"""Other numbers of a training step."""


class StepProgress(L.Callback):
    """Shows step, loss, rate and remaining time on rank 0.

    Args:
        every_n_steps: distance of the lines; a bar moves with every step.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._bar: tqdm[Any] | None = None
        self._shown = self._first = 0
        self._started = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock, and the bar on a terminal."""
        self._shown = self._first = trainer.global_step
        self._started = time.monotonic()
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(total=trainer.max_steps, initial=self._first, unit="step", dynamic_ncols=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show a finished optimiser step."""
        step = trainer.global_step
        if step == self._shown or not trainer.is_global_zero:
            return
        if self._bar is not None:
            if step % self.every_n_steps == 0:  # reading the loss waits for the device
                self._bar.set_postfix_str(f"loss {_loss(trainer):.4f}", refresh=False)
            self._bar.update(step - self._shown)
        elif step % self.every_n_steps == 0 or step == trainer.max_steps:
            print(self._line(step, trainer.max_steps, _loss(trainer)), flush=True)
        self._shown = step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the bar away."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Take the bar away before an error is printed."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _line(self, step: int, total: int, loss: float) -> str:
        rate = (step - self._first) / max(time.monotonic() - self._started, 1e-9)
        remaining = tqdm.format_interval((total - step) / rate) if rate else "?"
        return f"step {step:,} of {total:,}  loss {loss:.4f}  {rate:.2f} steps/s  {remaining} left"


def _loss(trainer: L.Trainer) -> float:
    return float(trainer.callback_metrics.get("train/loss", float("nan")))


class LossTrend(L.Callback):
    """Prints at the end how far each loss moved.

    Single training steps are too noisy to tell, so means over many are compared; steps whose loss is no number are
    left out. The validation losses are compared directly: every measurement has the same samples, noise and time steps.

    Args:
        every_n_steps: distance of the steps that are looked at.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._step = 0
        self._seen: dict[int, dict[str, float]] = {}
        self._validated: dict[int, dict[str, float]] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember where a resumed run starts."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the losses of every n-th step."""
        step = trainer.global_step
        if step != self._step and step % self.every_n_steps == 0:  # reading them waits for the device
            self._seen[step] = _losses(trainer, "train/")
        self._step = step

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the losses of the validation."""
        self._validated[trainer.global_step] = _losses(trainer, "val/")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the means of the first and of the last fifth of what was kept."""
        rows = list(self._seen.values())
        count = len(rows) // 5
        if count and trainer.is_global_zero:
            means = [
                f"{name.removeprefix('train/')} {_mean(rows[:count], name):.4f} -> {_mean(rows[-count:], name):.4f}"
                for name in rows[0]
            ]
            print(f"losses, first and last {count * self.every_n_steps} steps: {', '.join(means)}", flush=True)
        if trainer.is_global_zero and (skipped := int(trainer.callback_metrics.get("train/skipped", 0))):
            print(f"steps left out, because their gradient was not finite: {skipped:,}", flush=True)
        if len(self._validated) > 1 and trainer.is_global_zero:
            (first, before), *_, (last, after) = self._validated.items()
            moves = [f"{name.removeprefix('val/')} {before[name]:.4f} -> {after[name]:.4f}" for name in before]
            print(f"validation losses, steps {first} and {last}: {', '.join(moves)}", flush=True)


def _losses(trainer: L.Trainer, prefix: str) -> dict[str, float]:
    names = [name for name in trainer.callback_metrics if name.startswith(prefix) and name not in _NO_LOSSES]
    return {name: float(trainer.callback_metrics[name]) for name in names}


def _mean(rows: list[dict[str, float]], name: str) -> float:
    numbers = [row[name] for row in rows if math.isfinite(row[name])]
    return sum(numbers) / len(numbers) if numbers else math.nan

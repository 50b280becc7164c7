"""Averaged weights (EMA) on the training device; the paper uses none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Averaging(WeightAveraging):
    """Lightning's weight averaging, with three differences.

    The average lives on the training device (Lightning would build it on the CPU and copy all weights at every step),
    training does not end with the average inside the module, so the last checkpoint can be resumed from, and the decay
    grows as that of diffusers' ``EMAModel`` does: 1,000 steps with a decay of 0.999 throughout would leave more than a
    third of the average to the weights that training began with.

    Args:
        decay: in [0, 1], what it grows to: (1 + N) / (10 + N) after N averaged steps, as long as that is less.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=self._average)
        self._decay = decay

    def _average(self, averages: list[Tensor], weights: list[Tensor], count: int | Tensor) -> None:
        done = self._latest_update_step  # Lightning's own count lies on the device, where reading it would wait
        get_ema_multi_avg_fn(min(self._decay, (1 + done) / (10 + done)))(averages, weights, count)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Build the average where the training will be."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def _swap_models(self, pl_module: L.LightningModule) -> None:
        """Exchange the two sets of weights without any memory: one that runs out half-way would leave a mixture."""
        assert self._average_model is not None
        averages: nn.Module = self._average_model.module
        for averaged, current in zip(averages.parameters(), pl_module.parameters(), strict=True):
            averaged.data, current.data = current.data, averaged.data

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the raw weights in the module."""


@contextmanager
def averaged_weights(trainer: L.Trainer, pl_module: L.LightningModule) -> Iterator[None]:
    """Within the block the module holds the averaged weights, where the run has any."""
    averaging = next((callback for callback in trainer.callbacks if isinstance(callback, Averaging)), None)
    if averaging is None or averaging._average_model is None:
        yield
        return
    averaging._swap_models(pl_module)
    try:
        yield
    finally:
        averaging._swap_models(pl_module)

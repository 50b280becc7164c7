"""Training that a batch system may stop: all ranks agree between two steps, save one checkpoint together, and end."""

from __future__ import annotations

from typing import Any

import lightning as L

from h2d.checkpoints import Checkpoints
from h2d.stopping import StoppedError, stop_requested


class StopOnRequest(L.Callback):
    """Looks after every optimiser step whether a stop was requested of any rank (:mod:`h2d.stopping`).

    A start does at least one step, so a job that is stopped again and again still comes to its end; after the last step
    there is nothing to stop. Validation and sampling of the step that a run stops at are left out.

    Args:
        checkpoints: save the step.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self._step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember where a resumed run starts."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree, and stop.

        Raises:
            StoppedError: on all ranks, when the checkpoint is there.
        """
        step = trainer.global_step
        if step in (self._step, trainer.max_steps):  # gradients are still accumulated, or training is over
            return
        self._step = step
        if trainer.strategy.reduce_boolean_decision(stop_requested(), all=False):
            self.checkpoints.save(trainer)
            raise StoppedError(
                f"stopped at step {step:,} of {trainer.max_steps:,}, as requested: a checkpoint is there"
            )

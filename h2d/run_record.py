"""What a run is made of, beside its curves."""

from __future__ import annotations

import json

import lightning as L

from h2d.config import Experiment, to_yaml
from h2d.runs import provenance


class RunRecord(L.Callback):
    """Shows the settings and what made the run in TensorBoard's texts, once for each start.

    Args:
        experiment: the settings.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``config`` and ``provenance``, which keeps TensorBoard's formatting away from them."""
        if not trainer.is_global_zero or trainer.logger is None:
            return
        resumed_from = str(trainer.ckpt_path) if trainer.ckpt_path else None
        start = json.dumps(provenance() | {"resumed_from": resumed_from}, indent=2)
        for name, text in {"config": to_yaml(self.experiment), "provenance": start}.items():
            trainer.logger.experiment.add_text(name, f"```\n{text}\n```", trainer.global_step)

"""Training checkpoints that appear whole or not at all, are read without running code, and end where training ended."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from h2d.config import Experiment, from_plain
from h2d.errors import CheckpointError, ConfigError, SetupError
from h2d.files import replacing
from h2d.runs import checkpoint_folder

MUST_MATCH = ("task", "image_size", "model", "sampling.blend", "optim.ema_decay")
"""Settings that a resumed run shares with its checkpoint; others may change between the two."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; Lightning's own copies from the temporary folder and hides some errors."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint that appears complete or not at all.

        Raises:
            SetupError: the disk is full or not writable.
        """
        try:
            with replacing(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise SetupError(
                f"cannot write the checkpoint {path}: {error}", "is the disk full or read-only?"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, whatever the caller or the environment says, as plain data."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU; nothing in it can run code.

    Raises:
        CheckpointError: it is missing, damaged, no checkpoint of this project, or holds anything but plain data.
    """
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint {path}", "name a .ckpt file of a run, such as runs/NAME/checkpoints/last.ckpt"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive fails in a dozen ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} cannot be read: {reason}", "use an earlier checkpoint of the run") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise CheckpointError(f"{path} is no checkpoint of `h2d train`")
    return checkpoint


def experiment_of(checkpoint: dict[str, Any], path: Path) -> Experiment:
    """The experiment that made a checkpoint.

    Raises:
        CheckpointError: its settings are not those of this version.
    """
    try:
        return from_plain(checkpoint["hyper_parameters"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: its settings do not fit this version: {error.message}") from error


def check_resumable(path: Path, experiment: Experiment) -> int:
    """Step of the checkpoint, when a run of ``experiment`` can continue from it.

    Raises:
        CheckpointError: naming the settings that differ.
    """
    checkpoint = read_checkpoint(path)
    before = experiment_of(checkpoint, path)
    changed = [key for key in MUST_MATCH if attrgetter(key)(before) != attrgetter(key)(experiment)]
    if changed:
        raise CheckpointError(
            f"{path} was trained with another {', '.join(changed)}",
            "use the settings in the run's config.yaml, or start a new run with another run.name=NAME",
        )
    return int(checkpoint["global_step"])


class Checkpoints(ModelCheckpoint):
    """Every so many steps and at the end: ``step-0001000.ckpt``, and ``last.ckpt``, a link to the newest."""

    def __init__(self, folder: Path, every_n_steps: int, keep: int) -> None:
        super().__init__(
            dirpath=checkpoint_folder(folder),
            filename="step-{step:07d}",
            auto_insert_metric_name=False,
            monitor="step",
            mode="max",
            save_top_k=keep,
            save_last="link",
            every_n_train_steps=every_n_steps,
            enable_version_counter=False,
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count what a resumed run already has as saved."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last step when no checkpoint of it exists yet."""
        if trainer.global_step > self._last_global_step_saved:
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)

    def _should_remove_checkpoint(self, trainer: L.Trainer, previous: str, current: str) -> bool:
        """Like any other, the one that the run was resumed from: Lightning would keep it, one more after each stop."""
        return previous != current

"""Training checkpoints that appear whole or not at all, prove themselves, and are read without running code."""

from __future__ import annotations

import sys
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
from h2d.seals import SealedFile, check_seal, forget


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; Lightning's own copies from the temporary folder and hides some errors."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint that appears complete or not at all.

        It gets its name when it has been read back from the disk, fits its checksum and opens as plain data. Until
        then nothing happens to an older one. A folder that has vanished is made again: the work is worth more.

        Raises:
            SetupError: the disk is full or not writable, or does not give back what was written.
            CheckpointError: something in it is no plain value.
        """
        with replacing(Path(path)) as temporary:
            _write(checkpoint, temporary)
            _read_back(temporary, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, whatever the caller or the environment says, as plain data."""
        return read_checkpoint(Path(path))


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:
        sealed = SealedFile(file)
        try:
            torch.save(checkpoint, sealed)  # type: ignore[arg-type]
        except Exception as error:
            raise (sealed.failure or error) from None  # torch covers the error of the disk with another
        sealed.seal()


def _read_back(temporary: Path, path: Path) -> None:
    forget(temporary)
    try:
        check_seal(temporary)
    except CheckpointError as error:
        raise SetupError(
            f"cannot write {path}: other bytes came back than were written", "is the disk sound?"
        ) from error
    try:
        _load(temporary, mapped=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} would not open again: {_reason(error)}", "settings have to be plain values"
        ) from error


def read_checkpoint(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Load a checkpoint onto the CPU after a look at its checksum; nothing in it can run code.

    Args:
        path: a file on this machine.
        mapped: leave the tensors in the file until they are used, for a look at the rest.

    Raises:
        CheckpointError: it is missing, damaged, no checkpoint of this project, or holds anything but plain data.
    """
    check_seal(path)
    try:
        checkpoint = _load(path, mapped)
    except Exception as error:  # an archive fails in a dozen ways
        raise CheckpointError(
            f"{path} cannot be read: {_reason(error)}", "use an earlier checkpoint of the run"
        ) from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise CheckpointError(f"{path} is no checkpoint of `h2d train`")
    return checkpoint


def _load(path: Path, mapped: bool) -> Any:
    return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def experiment_of(checkpoint: dict[str, Any], path: Path) -> Experiment:
    """The experiment that made a checkpoint.

    Raises:
        CheckpointError: its settings are not those of this version.
    """
    try:
        return from_plain(checkpoint["hyper_parameters"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: its settings do not fit this version: {error.message}") from error


class Checkpoints(ModelCheckpoint):
    """Every so many steps and at the end: ``step-0001000.ckpt``, and ``last.ckpt``, a link to the newest.

    An old one is removed when the new one is there and ``last.ckpt`` leads to it.
    """

    def __init__(self, folder: Path, every_n_steps: int, keep: int) -> None:
        super().__init__(
            dirpath=checkpoint_folder(folder),
            filename="step-{step:07d}",
            auto_insert_metric_name=False,
            monitor="step",
            mode="max",
            save_top_k=keep,
            every_n_train_steps=every_n_steps,
            enable_version_counter=False,
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count what a resumed run already has as saved."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, and after the last step: before the final evaluation, which may take long."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step == trainer.max_steps:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Save the current step, together with all ranks, unless it has a checkpoint."""
        if trainer.global_step > self._last_global_step_saved:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def _should_remove_checkpoint(self, trainer: L.Trainer, previous: str, current: str) -> bool:
        """Like any other, the one that the run was resumed from: Lightning would keep it, one more after each stop."""
        return previous != current

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        if trainer.is_global_zero:
            _lead(Path(filepath).with_name("last.ckpt"), Path(filepath))


def _lead(link: Path, target: Path) -> None:
    """Make or turn a link in one move: Lightning's way has a moment without any. Training can do without it."""
    temporary = link.with_name(f".{link.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target.name)
        temporary.replace(link)
    except OSError as error:
        print(f"warning: cannot write {link}, a link to {target.name}: {error.strerror}", file=sys.stderr, flush=True)

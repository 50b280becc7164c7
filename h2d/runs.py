"""A run's folder: what lies in it, what to resume from, and the record of how it was made. Imports no torch."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from h2d import __version__
from h2d.config import Experiment, to_yaml
from h2d.errors import CheckpointError, ConfigError
from h2d.files import write_atomic
from h2d.seals import check_seal
from h2d.slurm import job_id

RECORDED = ("torch", "lightning", "diffusers", "transformers", "torchmetrics", "mediapipe", "numpy")
"""Packages whose versions can change a result."""
_PROBE = ".probe"
_STEP = re.compile(r"step-(\d+)\.ckpt")


def run_folder(experiment: Experiment) -> Path:
    """``run.dir/run.name``."""
    assert experiment.run.name, "compose() names every run"
    return Path(experiment.run.dir) / experiment.run.name


def checkpoint_folder(folder: Path) -> Path:
    """Where a run's checkpoints lie: ``step-0001000.ckpt`` and the link ``last.ckpt`` to the newest."""
    return folder / "checkpoints"


def step_of(checkpoint: Path) -> int:
    """Optimiser step that a checkpoint's name tells; -1 for other names."""
    match = _STEP.fullmatch(checkpoint.resolve().name)
    return int(match[1]) if match else -1


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, newest first, sound or not.

    The name decides and neither the time stamp nor ``last.ckpt``, a link that may be missing.
    """
    return _steps_in(checkpoint_folder(folder))


def choose_checkpoint(folder: Path, resume: str) -> Path | None:
    """What training continues from.

    Args:
        folder: of the run.
        resume: ``auto`` takes the newest sound checkpoint and names those that it passes over, or starts afresh where
            there are none; ``never`` starts afresh, else a checkpoint file.

    Raises:
        ConfigError: ``never``, or another file, in a folder that holds checkpoints, which the
            run would mix with its own.
        CheckpointError: the file does not exist or is damaged, or all checkpoints of the run are.
    """
    if resume == "auto":
        return _newest_sound(folder)
    chosen = _sound_file(resume) if resume != "never" else None
    newest = _newest_sound(folder) if chosen else next(iter(checkpoints_of(folder)), None)
    if newest and (chosen is None or chosen.resolve() != newest.resolve()):
        raise ConfigError(
            f"{folder} already holds a run (checkpoint of step {step_of(newest):,})",
            "continue it with --resume auto, or choose another run.name=NAME",
        )
    return chosen


def _newest_sound(folder: Path) -> Path | None:
    paths = checkpoints_of(folder)
    sound, complaints = _first_sound(paths)
    for complaint in complaints if sound else ():
        print(f"warning: {complaint}; going back to {sound}", file=sys.stderr, flush=True)
    if paths and sound is None:
        raise CheckpointError(
            f"none of the {len(paths)} checkpoints of {folder} can be used: {complaints[0]}",
            "start anew with another run.name=NAME, or in this folder when you have removed them",
        )
    return sound


def _sound_file(path: str) -> Path:
    """The file that the user names; where it is damaged, the hint is the newest sound one beside it."""
    try:
        check_seal(Path(path))
    except CheckpointError as error:
        sound, _ = _first_sound(_steps_in(Path(path).resolve().parent))
        instead = f"{sound} is sound" if sound else "--resume takes auto, never or the path of a .ckpt file"
        raise CheckpointError(error.message, instead) from error
    return Path(path)


def _first_sound(paths: Sequence[Path]) -> tuple[Path | None, list[str]]:
    """The first one that fits its checksum, and what is wrong with those before it."""
    complaints = []
    for path in paths:
        try:
            check_seal(path)
        except CheckpointError as error:
            complaints.append(error.message)
        else:
            return path, complaints
    return None, complaints


def _steps_in(place: Path) -> list[Path]:
    return sorted((path for path in place.glob("step-*.ckpt") if step_of(path) >= 0), key=step_of, reverse=True)


def check_partner(experiment: Experiment) -> None:
    """Notice a missing checkpoint before the networks are loaded, and in a dry run.

    Raises:
        CheckpointError: ``evaluation.partner`` does not exist.
    """
    partner = experiment.evaluation.partner
    if partner is not None and not Path(partner).is_file():
        raise CheckpointError(
            f"evaluation.partner={partner} does not exist", "train the other stage first, or leave it out"
        )


def prepare_folder(folder: Path) -> None:
    """Find out, before work is lost for it, whether checkpoints can be written; clear what killed writers left.

    To be called by the one process that writes them, holding the run's lock. It clears after every machine, since a job
    that was killed may go on somewhere else, and a checkpoint can be 14 GB.

    Raises:
        SetupError: the disk is full, read-only or closed to this user.
    """
    place = checkpoint_folder(folder)
    for leftover in place.glob(".*.tmp"):
        with suppress(OSError):  # what follows tells why
            leftover.unlink()
    write_atomic(place / _PROBE, bytes(1 << 16))
    (place / _PROBE).unlink()


def write_records(folder: Path, experiment: Experiment, resumed_from: Path | None) -> None:
    """Write ``config.yaml`` and add this start to ``provenance.json``."""
    write_atomic(folder / "config.yaml", to_yaml(experiment).encode())
    record = folder / "provenance.json"
    starts = _starts(record)
    starts.append(provenance() | {"resumed_from": str(resumed_from) if resumed_from else None})
    write_atomic(record, json.dumps({"starts": starts}, indent=2).encode() + b"\n")


def _starts(record: Path) -> list[Any]:
    try:
        return list(json.loads(record.read_text())["starts"])
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or not ours: a damaged record stops no training
        return []


def provenance() -> dict[str, Any]:
    """What made a result: command, job of Slurm, time, versions, commit of the code (``+``: with changes)."""
    return {
        "command": " ".join(["h2d", *sys.argv[1:]]),
        "job": job_id(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "h2d": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(RECORDED),
    }


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Installed version of each package, None where it is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str | None:
    """Commit of the checkout that this package runs from; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    head, changes = (_git(root, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno")))
    return f"{head}+" if head and changes else head


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None

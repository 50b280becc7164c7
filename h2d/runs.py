"""A run's folder: what lies in it, what to resume from, and the record of how it was made. Imports no torch."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from h2d import __version__
from h2d.config import Experiment, to_yaml
from h2d.errors import CheckpointError, ConfigError
from h2d.files import write_atomic

RECORDED = ("torch", "lightning", "diffusers", "transformers", "torchmetrics", "mediapipe", "numpy")
"""Packages whose versions can change a result."""
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


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a run's folder.

    The name decides and neither the time stamp nor ``last.ckpt``, which is gone for a moment while it is renewed.
    """
    found = [path for path in checkpoint_folder(folder).glob("step-*.ckpt") if step_of(path) >= 0]
    return max(found, key=step_of, default=None)


def choose_checkpoint(folder: Path, resume: str) -> Path | None:
    """What training continues from.

    Args:
        folder: of the run.
        resume: ``auto`` takes the newest checkpoint or starts afresh, ``never`` starts afresh, else a checkpoint file.

    Raises:
        ConfigError: ``never``, or another file, in a folder that holds checkpoints, which the
            run would mix with its own.
        CheckpointError: the file does not exist.
    """
    newest = newest_checkpoint(folder)
    if resume == "auto":
        return newest
    chosen = None if resume == "never" else Path(resume)
    if chosen and not chosen.is_file():
        raise CheckpointError(f"no checkpoint {resume}", "--resume takes auto, never or the path of a .ckpt file")
    if newest and (chosen is None or chosen.resolve() != newest.resolve()):
        raise ConfigError(
            f"{folder} already holds a run (checkpoint of step {step_of(newest):,})",
            "continue it with --resume auto, or choose another run.name=NAME",
        )
    return chosen


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
    """What made a result: command, time, versions and the commit of the code, ``+`` marking uncommitted changes."""
    return {
        "command": " ".join(["h2d", *sys.argv[1:]]),
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

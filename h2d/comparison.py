"""Several evaluations in one table: ``h2d compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from h2d.errors import DataError
from h2d.metrics.suite import MAIN_KEYS
from h2d.reports import NUMBERS

SAME = ("split", "shards", "image_size", "ground_truth", "detect_size", "seed")
"""Facts of the protocol in which evaluations have to agree to be compared."""


def compare(folders: Sequence[Path]) -> str:
    """A Markdown table with a row for each evaluation; ``-`` where a number could not be measured.

    Args:
        folders: of runs of ``h2d evaluate``.

    Raises:
        DataError: a folder holds no evaluation, or two were measured differently.
    """
    reports = {folder: _read(folder) for folder in folders}
    _check(reports)
    names = [name for name in MAIN_KEYS if any(report.get(name) is not None for report in reports.values())]
    rows = [["method", *names], ["---"] * (len(names) + 1)]
    for folder, report in reports.items():
        method = report["protocol"].get("method", folder.name)
        preset = report["protocol"].get("preset")
        rows.append([f"{method} ({preset})" if preset else method, *(_shown(report.get(name)) for name in names)])
    facts = next(iter(reports.values()))["protocol"]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", ", ".join(f"{key} {facts.get(key)}" for key in SAME)])


def _read(folder: Path) -> dict[str, Any]:
    path = folder / NUMBERS
    try:
        report = json.loads(path.read_text())
        if isinstance(report, dict) and isinstance(report.get("protocol"), dict):
            return report
        reason = "it has no protocol"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise DataError(f"{path} is no report of an evaluation: {reason}", "`h2d evaluate` writes it when it has ended")


def _check(reports: dict[Path, dict[str, Any]]) -> None:
    (first, reference), *others = reports.items()
    for folder, report in others:
        for key in ("n", *SAME):
            one, two = (r["n"] if key == "n" else r["protocol"].get(key) for r in (reference, report))
            if one != two:
                raise DataError(
                    f"{first} and {folder} cannot be compared: {key} is {one} and {two}", "evaluate both alike"
                )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"

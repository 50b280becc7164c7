"""What an evaluation leaves behind: numbers and a table of pictures, as files and as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from h2d.errors import DataError
from h2d.evaluation.measurements import Evaluation
from h2d.evaluation.rows import Store, stacked
from h2d.files import write_atomic
from h2d.images import encode_png
from h2d.metrics.suite import MAIN_KEYS
from h2d.runs import provenance

NUMBERS = "metrics.json"
"""Written last: where it is, an evaluation is complete."""


def write_report(store: Store, evaluation: Evaluation, numbers: Sequence[int]) -> None:
    """Write ``report.png`` and, last, ``metrics.json``.

    Args:
        store: of the evaluation.
        evaluation: its outcome.
        numbers: of its samples.
    """
    grid = stacked(store.strips(numbers))
    if grid is not None:
        write_atomic(store.folder / "report.png", encode_png(grid))
    content = evaluation.metrics | {
        "protocol": evaluation.protocol,
        "skipped": evaluation.skipped,
        "provenance": provenance(),
    }
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    write_atomic(store.folder / NUMBERS, text.encode() + b"\n")


def read_report(folder: Path) -> dict[str, Any]:
    """What ``metrics.json`` of an evaluation holds.

    Raises:
        DataError: the folder holds no finished evaluation.
    """
    path = folder / NUMBERS
    try:
        report = json.loads(path.read_text())
        if isinstance(report, dict) and isinstance(report.get("protocol"), dict):
            return report
        reason = "it has no protocol"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise DataError(
        f"{path} is no report of an evaluation: {reason}",
        "`h2d evaluate` writes it when it has ended; damaged, remove it",
    )


def number_table(report: Mapping[str, Any]) -> str:
    """Numbers of an evaluation, one on each line."""
    others = sorted(name for name, value in report.items() if name not in MAIN_KEYS and not isinstance(value, dict))
    names = [*MAIN_KEYS, *others]
    width = max(map(len, names))
    return "\n".join(f"{name:<{width}}  {shown(report[name]):>8}" for name in names)


def shown(value: float | None) -> str:
    """A number as tables show it; ``-`` for one that could not be measured."""
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

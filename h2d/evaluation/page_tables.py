"""The tables of the page: which number stands where, which is the best of its column, and why others are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from h2d.evaluation.breakdown import GESTURE_KEYS, Breakdown
from h2d.evaluation.calibration import ALTERATIONS
from h2d.evaluation.comparison import HIGHER, LOWER, columns, leaders, missing
from h2d.evaluation.page_words import LABELS, MEANINGS
from h2d.evaluation.report import flat, shown


class Column(NamedTuple):
    """A number in a table: its heading, what it says, and whether "higher" or "lower" is better, or ""."""

    label: str
    meaning: str
    better: str


class Cell(NamedTuple):
    """A number of a system: as text, whether it is the best, why it is missing, and the footnote that says so or 0."""

    text: str
    best: bool
    reason: str
    note: int


class Gesture(NamedTuple):
    """The cells of each system over the samples of a gesture."""

    name: str
    samples: int
    rows: list[list[Cell]]


def column(name: str) -> Column:
    """The column of a number."""
    better = "higher" if name in HIGHER else "lower" if name in LOWER else ""
    return Column(LABELS.get(name, name), MEANINGS.get(name, ""), better)


def number_rows(reports: Sequence[Mapping[str, Any]]) -> list[list[Cell]]:
    """The cells of each system, in the order of :func:`h2d.evaluation.comparison.columns`."""
    reasons = {
        (name, place): (one.reason, note)
        for note, one in enumerate(missing(reports), 1)
        for name in one.names
        for place in one.systems
    }
    rows: list[list[Cell]] = [[] for _ in reports]
    for name in columns(reports):
        values = [report.get(name) for report in reports]
        rivals = [None if _is_copy(report) else value for report, value in zip(reports, values, strict=True)]
        for place, (value, best) in enumerate(zip(values, leaders(name, rivals), strict=True)):
            reason, note = ("", 0) if value is not None else reasons.get((name, place), ("not measured", 0))
            rows[place].append(Cell(shown(value), best, reason, note))
    return rows


def _is_copy(report: Mapping[str, Any]) -> bool:
    """Whether photographs were evaluated, which compete with no system."""
    return report["protocol"].get("method") in ALTERATIONS


def why_no_gestures(parts: Sequence[Breakdown]) -> str:
    """Why there is no table of gestures; "" where there is one."""
    if not any(part.looked for part in parts):
        return "No poses were looked for in the pictures (evaluation.detector=none), so there is nothing to break down."
    if not any(part.found for part in parts):
        return "No pose was found in any picture, so there is nothing to break down."
    if len(set(parts[0].gestures) - {""}) < 2:
        return "Fewer than two gestures are known of these samples, so there is nothing to break down."
    return ""


def gesture_rows(parts: Sequence[Breakdown]) -> list[Gesture]:
    """The table of gestures, whose columns are :data:`h2d.evaluation.breakdown.GESTURE_KEYS`.

    Args:
        parts: of systems that were evaluated on the same samples.
    """
    table = []
    for gesture, numbers in parts[0].gestures.items():
        rows: list[list[Cell]] = [[] for _ in parts]
        for name in GESTURE_KEYS:
            values = [part.gestures[gesture][name] for part in parts]
            for row, part, value in zip(rows, parts, values, strict=True):
                absent = "no sample has what it is measured on" if part.looked else "evaluation.detector=none"
                row.append(Cell(shown(value), False, absent if value is None else "", 0))  # too few samples to win
        table.append(Gesture(gesture or "not known", int(numbers["n"] or 0), rows))
    return table


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Dotted key and value of everything in nested mappings, as text."""
    return [(key, plain(value)) for key, value in flat(values)]


def plain(value: Any) -> str:
    """A value as text for people."""
    if isinstance(value, list | tuple):
        return ", ".join(plain(one) for one in value)
    return "none" if value is None else str(value)

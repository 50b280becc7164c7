"""What the rows of an evaluation say beyond its numbers: by gesture, and which samples came out best and worst."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from h2d.errors import DataError
from h2d.evaluation.measurements import add_rows
from h2d.evaluation.report import NUMBERS
from h2d.evaluation.rows import Row
from h2d.experiment import MetricsConfig
from h2d.metrics.pose import EVERYTHING, MPJPE, object_similarity
from h2d.metrics.suite import Suite

GESTURE_KEYS = ("dap", "dap_hands", "mpjpe", "mpjpe_hands", "detection_rate")
"""The numbers of a gesture."""
EXTREMES = 4
"""Samples that are best, and as many that are worst."""


class Judged(NamedTuple):
    """A sample with its object keypoint similarity over all points (-1 where nobody was found), and its MPJPE."""

    row: Row
    similarity: float
    error: float


@dataclass(frozen=True)
class Breakdown:
    """What is kept of the rows of one system.

    Args:
        size: side of the pictures in pixels.
        numbers: of all samples, in order.
        first: rows of the first samples.
        looked: whether poses were looked for in the pictures.
        found: whether one was found in any of them.
        gestures: number of samples, and numbers under :data:`GESTURE_KEYS`, by gesture in alphabetical order; "" where
            it is not known.
        best: samples by falling similarity.
        worst: other samples by rising similarity.
    """

    size: int
    numbers: tuple[int, ...]
    first: list[Row]
    looked: bool
    found: bool
    gestures: dict[str, dict[str, float | int | None]]
    best: list[Judged]
    worst: list[Judged]


def break_down(folder: Path, report: Mapping[str, Any], first: int) -> Breakdown:
    """Read the rows of an evaluation once.

    Args:
        folder: of one system.
        report: what its ``metrics.json`` holds.
        first: rows to keep of the first samples.

    Raises:
        DataError: rows are missing or not what was written, or the report does not say how they were measured.
    """
    metrics, size = _protocol(folder, report)
    rows = list(read_rows(folder, int(report["n"])))
    looked = any(row.found is not None for row in rows)
    by_gesture: dict[str, list[Row]] = {}
    for row in rows:
        by_gesture.setdefault(row.gesture, []).append(row)
    best, worst = extremes(rows, metrics.oks_area_factor, size)
    return Breakdown(
        size,
        tuple(row.number for row in rows),
        rows[:first],
        looked,
        any(row.found is not None and (row.found[:, 2] > 0).any() for row in rows),
        {gesture: _numbers(by_gesture[gesture], metrics, size, looked) for gesture in sorted(by_gesture)},
        best,
        worst,
    )


def read_rows(folder: Path, count: int) -> Iterator[Row]:
    """The rows of a finished evaluation of ``count`` samples, in order.

    Raises:
        DataError: a file is not what was written, or there are more or fewer rows.
    """
    seen = 0
    for path in sorted((folder / "rows").glob("*.jsonl")):
        try:
            rows = [Row.from_json(line) for line in path.read_text().splitlines()]
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: {error}", "remove it and evaluate again: its samples are made anew") from error
        seen += len(rows)
        yield from rows
    if seen != count:
        problem = f"{folder / 'rows'} holds {seen} samples, {folder / NUMBERS} tells of {count}"
        raise DataError(problem, "remove the rows and evaluate again")


def extremes(rows: Sequence[Row], factor: float, size: int) -> tuple[list[Judged], list[Judged]]:
    """The best and the worst samples; no sample is both, and of equal ones the first of the split comes first.

    Args:
        rows: of the samples. Those whose truth is empty are left out, as DAP leaves them out.
        factor: of the area that scales distances, ``metrics.oks_area_factor``.
        size: side of the pictures in pixels.
    """
    judged = []
    for row in rows:
        if row.found is not None:
            labelled, similarity = object_similarity(row.found, row.truth, EVERYTHING, "person", factor)
            if labelled:
                judged.append((similarity, row))
    found = [one for one in judged if one[0] >= 0]
    best = sorted(found, key=lambda one: (-one[0], one[1].number))[: min(EXTREMES, (len(judged) + 1) // 2)]
    taken = {row.number for _, row in best}
    others = [one for one in judged if one[1].number not in taken]
    worst = sorted(others, key=lambda one: (one[0], one[1].number))[:EXTREMES]
    return [_judged(*one, size) for one in best], [_judged(*one, size) for one in worst]


def _judged(similarity: float, row: Row, size: int) -> Judged:
    assert row.found is not None
    error = MPJPE()
    error.update(torch.from_numpy(row.found)[None], torch.from_numpy(row.truth)[None], (size, size))
    return Judged(row, similarity, float(error.compute()))


def _numbers(rows: Sequence[Row], metrics: MetricsConfig, size: int, looked: bool) -> dict[str, float | int | None]:
    suite = Suite(metrics=metrics)
    add_rows(suite, rows, size, looked)
    values = suite.compute()
    return {name: values[name] for name in ("n", *GESTURE_KEYS)}


def _protocol(folder: Path, report: Mapping[str, Any]) -> tuple[MetricsConfig, int]:
    protocol = report["protocol"]
    try:
        return MetricsConfig(**protocol["metrics"]), int(protocol["image_size"])
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{folder / NUMBERS}: its protocol does not say how poses were compared: {error}"
        raise DataError(problem, "evaluate the system again with this version of h2d") from error

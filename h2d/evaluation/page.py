"""An evaluation as one page that can be sent around, and as pictures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined

from h2d.data.dataset import ShardDataset
from h2d.errors import DataError
from h2d.evaluation.breakdown import GESTURE_KEYS, Breakdown, Judged, break_down
from h2d.evaluation.comparison import check_alike, columns, labels_of, missing, shared_choices
from h2d.evaluation.page_pictures import (
    CELL,
    as_uri,
    asked_for,
    extremes_grid,
    made,
    made_with_pose,
    similarity_text,
)
from h2d.evaluation.page_tables import column, facts, gesture_rows, number_rows, plain, why_no_gestures
from h2d.evaluation.page_words import LABELS, date_of, versions_of
from h2d.evaluation.report import read_report
from h2d.evaluation.rows import Row, Store
from h2d.files import write_atomic
from h2d.grids import labelled_grid
from h2d.images import encode_png

PAGE, SIDE_BY_SIDE, EXTREMES = "index.html", "side_by_side.png", "extremes.png"
FIRST = 8
"""Samples that are shown of every system, the first ones."""
_TEMPLATE = Path(__file__).with_name("page.html.j2")


class Shown(NamedTuple):
    """Pictures with the text below them, and a label for each."""

    text: str
    key: str
    labels: Sequence[str]
    pictures: Sequence[str]


def write_page(folder: Path, systems: Sequence[Path], data: ShardDataset) -> Path:
    """Write ``index.html``, ``side_by_side.png``, and for each system ``extremes.png``.

    Args:
        folder: of the run.
        systems: folders of finished evaluations that were measured alike.
        data: the split that was evaluated.

    Returns:
        The path of ``index.html``, which needs no other file.

    Raises:
        DataError: a folder holds no finished evaluation, or not the files that were written; the evaluations were
            measured differently; or the data is not what was evaluated.
        SetupError: a file cannot be written.
    """
    by_folder = {system: read_report(system) for system in systems}
    check_alike(by_folder)
    reports = list(by_folder.values())
    breakdowns = {system: break_down(system, report, FIRST) for system, report in by_folder.items()}
    _check_samples(breakdowns)
    names = labels_of(by_folder)
    parts, truth = list(breakdowns.values()), _truth_label(reports[0])
    content = {
        "title": folder.resolve().name,
        "n": reports[0]["n"],
        "split": reports[0]["protocol"].get("split"),
        "date": date_of(reports),
        "versions": versions_of(reports),
        "systems": names,
        "choices": [(key, plain(value)) for key, value in shared_choices(reports)],
        "missing": missing(reports),
        "labels": LABELS,
        "columns": [column(name) for name in columns(reports)],
        "numbers": number_rows(reports),
        "no_gestures": why_no_gestures(parts),
        "gesture_columns": [column(name) for name in GESTURE_KEYS],
        "gestures": gesture_rows(parts),
        "pixels": parts[0].size < CELL,
        "first": _side_by_side(folder, breakdowns, names, truth, data),
        "extremes": [_extremes(*one, truth, data) for one in breakdowns.items()],
        "protocols": [facts(report["protocol"]) for report in reports],
        "provenances": [facts(report.get("provenance", {})) for report in reports],
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(content)
    write_atomic(folder / PAGE, text.encode())
    return folder / PAGE


def _check_samples(breakdowns: Mapping[Path, Breakdown]) -> None:
    (first, reference), *others = breakdowns.items()
    for folder, part in others:
        if part.numbers != reference.numbers:
            raise DataError(f"{first} and {folder} hold rows of different samples", "evaluate both alike")


def _truth_label(report: Mapping[str, Any]) -> str:
    annotated = report["protocol"]["metrics"].get("ground_truth") != "redetected"
    return "pose asked for" if annotated else "pose found in the photograph"


def _side_by_side(
    folder: Path, breakdowns: Mapping[Path, Breakdown], names: Sequence[str], truth: str, data: ShardDataset
) -> list[Shown]:
    """The first samples of all systems, which it also writes as a picture."""
    grid, shown_rows, labels = [], [], ["photograph", truth, *names]
    for rows in zip(*(part.first for part in breakdowns.values()), strict=True):
        asked = asked_for(data, rows[0], next(iter(breakdowns.values())).size)
        pictures = [made(Store(system), row) for system, row in zip(breakdowns, rows, strict=True)]
        grid.append([asked.photograph, asked.pose, *pictures])
        shown_rows.append(Shown(asked.caption, rows[0].key, labels, [as_uri(picture) for picture in grid[-1]]))
    write_atomic(folder / SIDE_BY_SIDE, encode_png(labelled_grid(grid, labels, CELL)))
    return shown_rows


def _extremes(system: Path, part: Breakdown, truth: str, data: ShardDataset) -> dict[str, list[Shown]]:
    """The best and the worst samples of a system, which it also writes as a picture; nothing without poses."""
    if not part.best and not part.worst:
        return {}
    store = Store(system)

    def pictures(row: Row) -> list[np.ndarray]:
        asked = asked_for(data, row, part.size)
        return [asked.photograph, asked.pose, made_with_pose(store, row)]

    best, worst = ([(one, pictures(one.row)) for one in half] for half in (part.best, part.worst))
    write_atomic(system / EXTREMES, encode_png(extremes_grid(best, worst)))
    labels = ["photograph", truth, "picture, pose found"]
    return {
        heading: [Shown(_judgement(one), one.row.key, labels, [as_uri(p) for p in three]) for one, three in half]
        for heading, half in (("Best", best), ("Worst", worst))
        if half
    }


def _judgement(one: Judged) -> str:
    return f"{similarity_text(one.similarity)}, MPJPE {one.error:.4f}, sample {one.row.number}"

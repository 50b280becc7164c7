"""What several evaluations made of the same samples, beside each other: ``h2d compare --pictures``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from h2d.errors import ConfigError, DataError
from h2d.evaluation.breakdown import read_rows
from h2d.evaluation.page_pictures import CELL, made, small
from h2d.evaluation.report import read_report
from h2d.evaluation.rows import Store
from h2d.files import write_atomic
from h2d.grids import labelled_grid
from h2d.images import encode_jpeg, encode_png
from h2d.rendering import draw_openpose

_ENCODERS = {".png": encode_png, ".jpg": encode_jpeg, ".jpeg": encode_jpeg}


def write_pictures(systems: Mapping[str, Path], path: Path, count: int) -> None:
    """A row for each of the first samples: the pose asked for, and what each system made of it.

    Args:
        systems: folders of finished evaluations of the same samples, by the label of their column.
        path: to write, PNG or JPEG by its name.
        count: of the samples, or all where there are fewer.

    Raises:
        ConfigError: the name ends otherwise, or there is nothing to show.
        DataError: rows or pictures are not what was evaluated, or not of the same samples.
        SetupError: the file cannot be written.
    """
    if path.suffix.lower() not in _ENCODERS:
        raise ConfigError(f"--pictures {path}: neither PNG nor JPEG", f"name it {path.stem or 'pictures'}.png")
    if count < 1:
        raise ConfigError(f"--count has to be at least 1, not {count}")
    write_atomic(path, _ENCODERS[path.suffix.lower()](_sheet(systems, count)))


def _sheet(systems: Mapping[str, Path], count: int) -> np.ndarray:
    reports = {folder: read_report(folder) for folder in systems.values()}
    rows = {folder: list(islice(read_rows(folder, int(report["n"])), count)) for folder, report in reports.items()}
    (first, shown), *others = rows.items()
    for folder, same in others:
        if [row.number for row in same] != [row.number for row in shown]:
            raise DataError(f"{first} and {folder} hold rows of different samples", "evaluate both alike")
    size = int(reports[first]["protocol"]["image_size"])
    grid = [
        [small(draw_openpose(row.truth, size)), *(made(Store(folder), same[line]) for folder, same in rows.items())]
        for line, row in enumerate(shown)
    ]
    return labelled_grid(grid, ["pose", *systems], CELL)

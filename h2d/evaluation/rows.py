"""What is kept of every evaluated sample: a row of facts, its picture, and for the first ones what led to it.

An evaluation's numbers follow from these files alone. They are written batch by batch, the rows last, so that a killed
evaluation goes on with the first batch without rows and ends with the same numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from h2d.errors import DataError
from h2d.files import write_atomic
from h2d.grids import HEADER, labelled_grid
from h2d.images import encode_png, load_image
from h2d.pictures import Picture
from h2d.skeleton import NUM_KEYPOINTS

PARTS = ("rows", "samples", "stages")
"""Folders of an evaluation: facts, pictures, and the strips of :data:`STAGE_CELL` that show what led to them."""
STAGE_CELL = 256
"""Side of a picture in a strip; tiny pictures of 128 pixels are doubled."""


@dataclass(frozen=True)
class Row:
    """The facts of one sample.

    Args:
        number: of the sample in its split.
        key: of the sample.
        gesture: of the sample, "" where it is not known.
        found: pose ``(133, 3)`` in the picture, in its pixels; None where none was looked for.
        score: of the pose, in [0, 1].
        truth: pose that it is compared with.
        mask_ious: overlap of each of stage I's masks with what it should be.
        empty_masks: how many of them show no hand.
        remarks: see :class:`h2d.pictures.Picture`.
        sha256: of the picture's file; "" before it is written.
    """

    number: int
    key: str
    gesture: str
    found: np.ndarray | None
    score: float
    truth: np.ndarray
    mask_ious: tuple[float, ...] = ()
    empty_masks: int = 0
    remarks: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The remarks without their details."""
        return tuple(remark.partition(":")[0] for remark in self.remarks)

    def to_json(self) -> str:
        """One line of text, from which :meth:`from_json` makes the same row to the last bit."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(values, default=np.ndarray.tolist, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Row:
        """The row of a line; ValueError or TypeError for anything else."""
        values = json.loads(line)
        if wrong := set(values) ^ {field.name for field in fields(cls)}:
            raise ValueError(f"missing or unknown: {', '.join(sorted(wrong))}")
        poses = {name: _pose(values[name]) for name in ("found", "truth") if values[name] is not None}
        lists = {name: tuple(values[name]) for name in ("mask_ious", "remarks")}
        return cls(**values | poses | lists)


class Store:
    """The files of an evaluation, see :data:`PARTS`.

    Args:
        folder: of the evaluation.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def picture_path(self, number: int) -> Path:
        """Where the picture of a sample is."""
        return self.folder / "samples" / f"{number:06d}.png"

    def has(self, batch: int, numbers: Sequence[int]) -> bool:
        """Whether a batch of these samples is complete."""
        return self._rows_path(batch).is_file() and all(self.picture_path(number).is_file() for number in numbers)

    def write(self, batch: int, rows: Sequence[Row], pictures: Sequence[Picture], strips: Collection[int]) -> None:
        """Write a batch.

        Args:
            batch: its number.
            rows: of its samples.
            pictures: of its samples.
            strips: samples whose stages are kept as well.
        """
        lines = []
        for row, picture in zip(rows, pictures, strict=True):
            content = encode_png(picture.image)
            write_atomic(self.picture_path(row.number), content)
            if row.number in strips:
                strip = labelled_grid([list(picture.panels.values())], list(picture.panels), STAGE_CELL)
                write_atomic(self._strip_path(row.number), encode_png(strip))
            lines.append(replace(row, sha256=hashlib.sha256(content).hexdigest()).to_json() + "\n")
        write_atomic(self._rows_path(batch), "".join(lines).encode())

    def read(self, batch: int, numbers: Sequence[int]) -> list[Row]:
        """The rows of a batch of these samples.

        Raises:
            DataError: the file is not what was written.
        """
        path = self._rows_path(batch)
        try:
            rows = [Row.from_json(line) for line in path.read_text().splitlines()]
            if [row.number for row in rows] != list(numbers):
                raise ValueError("it holds other samples")
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: {error}", f"remove it, and its batch is evaluated again: {numbers}") from error
        return rows

    def picture(self, row: Row) -> np.ndarray:
        """The picture of a row, uint8 ``(S, S, 3)``.

        Raises:
            DataError: it is not what was written.
        """
        path = self.picture_path(row.number)
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != row.sha256:
            raise DataError(f"{path} is not the picture that was evaluated", "remove it, and it is made again")
        return load_image(content, str(path))

    def strips(self, numbers: Iterable[int]) -> list[np.ndarray]:
        """What led to the pictures of these samples, where it was kept, each a table of one row."""
        paths = [self._strip_path(number) for number in numbers]
        return [load_image(path.read_bytes(), str(path)) for path in paths if path.is_file()]

    def _rows_path(self, batch: int) -> Path:
        return self.folder / "rows" / f"{batch:06d}.jsonl"

    def _strip_path(self, number: int) -> Path:
        return self.folder / "stages" / f"{number:06d}.png"


def stacked(strips: Sequence[np.ndarray]) -> np.ndarray | None:
    """Tables of one row with the same columns as one table; None without any."""
    return np.concatenate([strips[0], *(strip[HEADER:] for strip in strips[1:])]) if strips else None


def _pose(values: Any) -> np.ndarray:
    pose = np.array(values, np.float32)
    if pose.shape != (NUM_KEYPOINTS, 3) or not np.isfinite(pose).all():
        raise ValueError(f"a pose of shape {pose.shape}, or with numbers that are not finite")
    return pose

"""Values of a JSON file that somebody else wrote: taken only as what they should be, and named when they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from h2d.errors import DataError
from h2d.images import MAX_PIXELS

MAX_COORDINATE = 100_000
"""No picture is so wide or high, in pixels; a coordinate farther out is a mistake, and OpenCV could not draw it."""
MAX_SIDE = 20_000
"""Largest width or height, in pixels, that a file may claim."""

FORMS = (
    'use {"keypoints": [[x, y, v], ... 133 of them in COCO-WholeBody order], "width": W, "height": H}, '
    "an OpenPose file, or a COCO-WholeBody annotation file"
)


def as_object(value: Any, where: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: (as every function of this file does) the value is something else.
    """
    return value if isinstance(value, dict) else _wrong(value, where, "an object")


def as_list(value: Any, where: str) -> list[Any]:
    """A JSON array."""
    return value if isinstance(value, list) else _wrong(value, where, "a list")


def triples(value: Any, counts: Sequence[int], where: str) -> np.ndarray:
    """float32 ``(N, 3)`` of a flat list of 3 N finite numbers, with one of the ``counts`` for N."""
    numbers = as_list(value, where)
    if len(numbers) not in [3 * count for count in counts]:
        wanted = " or ".join(f"{3 * count} ({count} x 3)" if count > 1 else "3" for count in counts)
        raise DataError(f"{where} has {len(numbers)} numbers, not {wanted}", "write every keypoint, missing ones as 0")
    for place, number in enumerate(numbers):
        if not _is_number(number) or not abs(number) <= MAX_COORDINATE:
            shown = repr(number)[:40]
            raise DataError(f"{where}: number {place} is {shown}", f"use finite numbers up to {MAX_COORDINATE:,}")
    return np.array(numbers, np.float32).reshape(-1, 3)


def picture_size(entry: Mapping[str, Any], names: tuple[str, str], where: str) -> tuple[int, int]:
    """Width and height in pixels, which ``entry`` has under the ``names``."""
    for name in names:
        if name not in entry:
            raise DataError(
                f"{where} has no {name}", f"add {names[0]} and {names[1]}: the size of the picture in pixels"
            )
        side = entry[name]
        if not _is_number(side) or not 1 <= side <= MAX_SIDE or side != int(side):
            raise DataError(f"{where}: {name} is {repr(side)[:40]}", f"use a whole number from 1 to {MAX_SIDE:,}")
    width, height = (int(entry[name]) for name in names)
    if width * height > MAX_PIXELS:
        raise DataError(f"{where}: {width} x {height} is more than {MAX_PIXELS // 1_000_000} million pixels")
    return width, height


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(value: Any, where: str, wanted: str) -> NoReturn:
    found = "null" if value is None else f"{type(value).__name__} {repr(value)[:40]}"
    raise DataError(f"{where} is {found}, not {wanted}", FORMS)

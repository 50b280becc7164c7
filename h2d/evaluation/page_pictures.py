"""The pictures of the page: photographs, the poses asked for, and poses found drawn over what a system made."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from h2d.data.dataset import ShardDataset
from h2d.data.schema import decode_sample
from h2d.data.square import square_sample
from h2d.errors import DataError
from h2d.evaluation.breakdown import Judged
from h2d.evaluation.rows import Row, Store
from h2d.grids import PAPER, labelled_grid
from h2d.images import encode_jpeg
from h2d.rendering import draw_openpose

CELL = 256
"""Longest side of a picture in pixels."""
QUALITY = 80
DIMMED = 0.4
"""Share that is left of a picture's brightness under a pose."""


class Asked(NamedTuple):
    """What a sample asks for: its caption, and uint8 pictures ``(S, S, 3)`` of at most :data:`CELL` pixels."""

    caption: str
    photograph: np.ndarray
    pose: np.ndarray


def asked_for(data: ShardDataset, row: Row, size: int) -> Asked:
    """What a sample asks for, with the pose that the system's is compared with.

    Args:
        data: the split.
        row: of the sample.
        size: side in pixels of the pictures that were made.

    Raises:
        DataError: the split has not this sample, or it is damaged.
    """
    raw = data.read(row.number) if row.number < len(data) else {}
    if raw.get("__key__") != row.key:
        problem = (
            f"sample {row.number} of {data.shards[0].path.parent} is {raw.get('__key__', 'not there')}, not {row.key}"
        )
        raise DataError(problem, "name the shards and the split that were evaluated")
    sample = square_sample(decode_sample(raw), size)
    return Asked(sample.caption, small(sample.image), small(draw_openpose(row.truth, size)))


def made(store: Store, row: Row) -> np.ndarray:
    """The picture of a sample, small.

    Raises:
        DataError: it is not what was written.
    """
    return small(store.picture(row))


def made_with_pose(store: Store, row: Row) -> np.ndarray:
    """The picture of a sample, small and dimmed, and the pose that was found in it.

    Raises:
        DataError: the picture is not what was written.
    """
    picture = store.picture(row)
    assert row.found is not None
    drawing = draw_openpose(row.found, len(picture))
    cover = drawing.max(axis=-1, keepdims=True) / 255
    return small((picture * DIMMED * (1 - cover) + drawing * cover).round().astype(np.uint8))


def small(picture: np.ndarray) -> np.ndarray:
    """A square picture of at most :data:`CELL` pixels."""
    if len(picture) <= CELL:
        return picture
    return np.array(Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.LANCZOS))


def as_uri(picture: np.ndarray) -> str:
    """A picture that a page carries in itself."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(picture, QUALITY)).decode()


def extremes_grid(
    best: Sequence[tuple[Judged, Sequence[np.ndarray]]], worst: Sequence[tuple[Judged, Sequence[np.ndarray]]]
) -> np.ndarray:
    """The best samples beside the worst, each with photograph, pose asked for and picture; uint8 ``(H, W, 3)``."""
    empty = [np.full((CELL, CELL, 3), PAPER, np.uint8)] * 3
    halves = [[_numbered(one, pictures) for one, pictures in half] for half in (best, worst)]
    rows = [
        [*(halves[0][line] if line < len(best) else empty), *(halves[1][line] if line < len(worst) else empty)]
        for line in range(max(len(best), len(worst)))
    ]
    labels = [
        f"{half}: {label}" for half in ("best", "worst") for label in ("photograph", "pose", "picture, pose found")
    ]
    return labelled_grid(rows, labels, CELL)


def similarity_text(similarity: float) -> str:
    """The similarity of a sample as the page shows it."""
    return "nobody found" if similarity < 0 else f"OKS {similarity:.4f}"


def _numbered(one: Judged, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pictures of a sample, the last with its similarity and number in a corner."""
    last = Image.fromarray(pictures[-1]).resize((CELL, CELL), Image.Resampling.BICUBIC)
    text = f"{similarity_text(one.similarity)}\nsample {one.row.number}"
    ImageDraw.Draw(last).multiline_text(
        (6, 4), text, (255, 255, 255), font=ImageFont.load_default(14), stroke_width=2, stroke_fill=(0, 0, 0)
    )
    return [*pictures[:-1], np.array(last)]

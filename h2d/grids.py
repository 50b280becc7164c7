"""Pictures side by side, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP, HEADER = 4, 24
PAPER, INK = (255, 255, 255), (40, 40, 40)


def labelled_grid(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str], cell: int = 256) -> np.ndarray:
    """A table of pictures with a label above each column.

    Args:
        rows: pictures uint8 ``(H, W)`` or ``(H, W, 3)``.
        labels: of the columns.
        cell: longer side in pixels to which every picture is resized; small ones are enlarged without blur.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    width = len(labels) * (cell + GAP) + GAP
    sheet = Image.new("RGB", (width, HEADER + len(rows) * (cell + GAP)), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, label in enumerate(labels):
        x = GAP + column * (cell + GAP)
        pen.text((x + cell / 2, HEADER / 2), label, INK, font=font, anchor="mm")
        for number, row in enumerate(rows):
            picture = _fitted(row[column], cell)
            corner = (x + (cell - picture.width) // 2, HEADER + number * (cell + GAP) + (cell - picture.height) // 2)
            sheet.paste(picture, corner)
    return np.asarray(sheet)


def mosaic(pictures: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Several square pictures in one of ``side`` pixels, as few rows as fit; grey where there is none."""
    if len(pictures) == 1:
        return np.asarray(_fitted(pictures[0], side))
    across = max(1, math.ceil(math.sqrt(len(pictures))))
    sheet, cell = Image.new("RGB", (side, side), (128, 128, 128)), side // across
    for number, picture in enumerate(pictures):
        row, column = divmod(number, across)
        sheet.paste(_fitted(picture, cell), (column * cell, row * cell))
    return np.asarray(sheet)


def _fitted(picture: np.ndarray, side: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture)).convert("RGB")
    longer = max(image.size)
    method = Image.Resampling.NEAREST if side % longer == 0 else Image.Resampling.BICUBIC
    return image.resize((round(image.width * side / longer), round(image.height * side / longer)), method)

"""A contact sheet of samples with their labels drawn on them, for people to look at."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from h2d.data.schema import Sample
from h2d.data.shards import iter_samples, read_manifests
from h2d.errors import DataError
from h2d.files import write_atomic
from h2d.images import encode_png
from h2d.rendering import overlay

TILE = 256
CAPTION = 44
COLUMNS = 5


def preview(folder: Path | str, out: Path | str, count: int = 20) -> Path:
    """Write a PNG with the first ``count`` samples: picture, mask, keypoints, key and caption.

    Args:
        folder: shards with their manifest.
        out: the PNG to write; its folder is made if needed.
        count: samples to show.

    Returns:
        ``out``.

    Raises:
        DataError: the folder is damaged or empty.
    """
    splits = read_manifests(folder).counts
    samples = list(islice(chain.from_iterable(iter_samples(folder, split) for split in splits), count))
    if not samples:
        raise DataError(f"{folder} holds no samples")
    tiles = [tile(sample) for sample in samples]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
    write_atomic(Path(out), encode_png(np.concatenate(rows)))
    return Path(out)


def tile(sample: Sample) -> np.ndarray:
    """One sample as uint8 ``(TILE + CAPTION, TILE, 3)``."""
    height, width = sample.image.shape[:2]
    scale = TILE / max(height, width)
    pose = sample.pose * np.array([scale, scale, 1], np.float32)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = np.array(Image.fromarray(sample.image).resize(size, Image.Resampling.BOX))
    hands = np.array(Image.fromarray(sample.hands).resize(size, Image.Resampling.NEAREST))
    canvas = Image.new("RGB", (TILE, TILE + CAPTION), "white")
    canvas.paste(Image.fromarray(overlay(image, pose, hands)), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    _write(canvas, [sample.key.rpartition("/")[2][:40], *_wrap(sample.caption, 42)[:2]])
    return np.array(canvas)


def _write(canvas: Image.Image, lines: list[str]) -> None:
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((3, TILE + 2 + 13 * number), line.encode("ascii", "replace").decode(), fill="black")


def _wrap(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]

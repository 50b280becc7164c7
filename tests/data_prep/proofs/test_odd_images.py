"""Pictures that are whole and yet odd: every mode and orientation comes out upright in RGB, and bombs stay shut."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from h2d.images import load_image


def saved(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


def test_the_memory_that_a_bomb_takes(
    blank_png: Callable[[int, int], bytes], tmp_path: Path, figures: Callable[[str], None]
) -> None:
    (tmp_path / "bomb.png").write_bytes(blank_png(30_000, 30_000))
    code = (
        "from pathlib import Path; from h2d.images import ImageError, load_image\n"
        "try: load_image(Path('bomb.png'))\n"
        "except ImageError as error: print(error.reason)\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"  # ru_maxrss begins with that of this process
        "print(next(int(line.split()[1]) // 1024 for line in lines if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    reason, mebibytes = done.stdout.splitlines()
    assert reason == "more than 100 million pixels"
    assert int(mebibytes) < 1024
    figures(f"900 million pixels: refused with {mebibytes} MiB")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_mode_is_turned_upright(people: Path, orientation: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that give the stored picture
    upright = Image.fromarray(load_image(sorted(people.glob("*/*.jpg"))[0])).resize((90, 128))
    exif = Image.Exif()
    exif[0x0112] = orientation
    cases = [("JPEG", mode) for mode in ("RGB", "L", "CMYK")] + [
        ("PNG", mode) for mode in ("RGB", "L", "LA", "RGBA", "P", "1")
    ]
    for kind, mode in [*cases, ("PNG", "I;16"), ("TIFF", "F"), ("TIFF", "RGB"), ("WEBP", "RGB")]:
        picture = as_mode(upright, mode)
        stored = picture if orientation == 1 else picture.transpose(Image.Transpose(undo[orientation]))
        quality = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
        image = load_image(saved(stored, format=kind, exif=exif, **quality))
        expected = np.asarray(as_eight_bits(picture).convert("RGB")).astype(int)
        assert image.shape == expected.shape, (kind, mode)
        limit = 1 if kind in ("PNG", "TIFF") else 4
        assert np.abs(image - expected).mean() < limit, (kind, mode)


def as_mode(picture: Image.Image, mode: str) -> Image.Image:
    grey = np.asarray(picture.convert("L"))
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    return Image.fromarray(grey.astype(np.float32) / 255) if mode == "F" else picture.convert(mode)


def as_eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode not in ("I;16", "F"):
        return picture
    values = np.asarray(picture).astype(np.float64)
    return Image.fromarray(np.uint8(np.rint(values / 257 if picture.mode == "I;16" else values * 255)))

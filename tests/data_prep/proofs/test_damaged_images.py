"""Damaged and odd pictures: every file is read or rejected with a reason, none is lost, none ends anything."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.chunks import Counts, read_head
from h2d.images import ImageError, load_image

KINDS: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG"}, "jpeg": {"format": "JPEG", "progressive": True}, "png": {"format": "PNG"},
    "webp": {"format": "WEBP"}, "tif": {"format": "TIFF"}, "bmp": {"format": "BMP"}, "gif": {"format": "GIF"},
}  # fmt: skip


def saved(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def good(people: Path) -> dict[str, bytes]:
    """A small photograph of a person in each format."""
    picture = Image.fromarray(load_image(sorted(people.glob("*/*.jpg"))[0])).resize((128, 128))
    return {extension: saved(picture, **options) for extension, options in KINDS.items()}


def mutated(good: dict[str, bytes], number: int) -> tuple[str, bytes]:
    """Extension and content of a damaged file: flipped bits, cut off, another's header, swapped or doubled blocks."""
    rng = random.Random(number)
    extension, donor = rng.choice(list(good)), good[rng.choice(list(good))]
    data = bytearray(good[extension])
    size = rng.randrange(1, 65)
    first, second = sorted(rng.sample(range(len(data) - size), 2))
    match number % 6:
        case 0:
            for _ in range(rng.randrange(1, 9)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[rng.randrange(len(data)) :]
        case 2:
            data[:size] = donor[:size]
        case 3:
            data[first : first + size], data[second : second + size] = (
                data[second : second + size],
                data[first : first + size],
            )
        case 4:
            data[first:first] = data[second : second + size]
        case _:
            data[rng.randrange(40)] = rng.randrange(256)
    return extension, bytes(data)


def test_damaged_files_are_read_or_refused_in_one_line(
    good: dict[str, bytes], long: bool, figures: Callable[[str], None]
) -> None:
    count, refused = 5000 if long else 500, 0
    for number in range(count):
        try:
            assert load_image(mutated(good, number)[1]).shape[2] == 3
        except ImageError as error:
            assert len(error.message.splitlines()) == 1  # noqa: PT017
            refused += 1
    assert count / 5 < refused < count
    figures(f"{count} damaged files decoded: {refused} refused in one line, the others read")


def odd(good: dict[str, bytes], png: Callable[[int, int], bytes]) -> dict[str, bytes]:
    """Files that are whole and yet not what is expected."""
    picture = Image.open(io.BytesIO(good["png"]))
    modes = {f"{mode}.png": saved(picture.convert(mode), format="PNG") for mode in ("L", "LA", "P", "1", "RGBA")}
    grey = np.asarray(picture.convert("L"))
    flat = bytearray(good["jpg"])
    place = flat.index(b"\xff\xc0") + 5
    flat[place : place + 2] = b"\0\0"
    return modes | {
        "cmyk.jpg": saved(picture.convert("CMYK"), format="JPEG"),
        "16 bits.png": saved(Image.fromarray(grey.astype(np.uint16) * 257), format="PNG"),
        "float.tif": saved(Image.fromarray(grey.astype(np.float32) / 255), format="TIFF"),
        "1x1.png": png(1, 1), "3x4000.png": png(3, 4000), "no height.png": png(40, 0), "no height.jpg": bytes(flat),
        "bomb.png": png(30_000, 30_000), "long.png": png(32_766, 20), "too long.png": png(32_767, 20),
        "animated.gif": good["gif"],
    }  # fmt: skip


def test_a_folder_of_damaged_files_is_read_to_its_end(
    good: dict[str, bytes],
    blank_png: Callable[[int, int], bytes],
    start: Any,
    tmp_path: Path,
    long: bool,
    figures: Callable[[str], None],
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    for name, content in odd(good, blank_png).items():
        (root / name).write_bytes(content)
    count = 10_000 if long else 150
    for number in range(count - len(list(root.iterdir()))):
        extension, content = mutated(good, number)
        (root / f"{number}.{extension}").write_bytes(content)
    said = ""
    for stage in ("index", "keypoints"):
        process = start(
            stage, "folder", f"root={root}", f"out={out}", "jobs=2", "chunk_size=256" if long else "chunk_size=64"
        )
        said += process.communicate(timeout=3000)[0]
        assert process.returncode == 0, said
    assert "Traceback" not in said
    total, unread = Counts(), (out / "index" / "rejected.jsonl").read_text().splitlines()
    for path in (out / "keypoints").glob("*.tar"):
        total.add(read_head(path).counts)
    named = {json.loads(line)["image"] for line in unread} | {row["image"] for row in total.rejected}
    assert total.read + len(unread) == count
    assert len(named) == count - total.written
    assert set(total.reasons) <= {"cannot read", "no person found", "no hand found"}
    assert total.written > 0
    figures(f"{count} files = {total.written} written + {len(named)} rejected, each named; {total.reasons}")

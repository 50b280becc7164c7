from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.data.check import check
from h2d.data.preview import preview
from h2d.data.schema import SCHEMA_VERSION, encode_sample
from h2d.data.shards import Manifest, ShardInfo, read_manifest, write_manifest, write_tar
from h2d.data.stats import stats
from h2d.errors import DataError
from h2d.files import sha256_of
from h2d.images import encode_png, load_image
from h2d.skeleton import RIGHT_HAND


def sample(number: int, of: str, **changes: Any) -> tuple[str, dict[str, bytes]]:
    """A plain picture with a square right hand; ``changes`` are of its meta, or ``v``, ``hands`` and ``caption``."""
    key = f"made/{number}"
    hands = np.zeros((64, 48), np.uint8)
    hands[20:40, 10:30] = changes.pop("hands", 1)
    pose = np.zeros((133, 3), np.float32)
    pose[RIGHT_HAND] = (changes.pop("x", 20), 30, changes.pop("v", 2))
    caption = changes.pop("caption", "a person showing a hand")
    meta = {
        "schema": SCHEMA_VERSION, "key": key, "source": "made", "split": of, "subject": f"{of}{number}",
        "gesture": "palm", "size": [48, 64], "made_by": {"pose": "hand"},
    }  # fmt: skip
    image = np.full((64, 48, 3), 200, np.uint8)
    return key, encode_sample(key, encode_png(image), "png", hands, pose, caption, meta | changes)


def write(folder: Path, samples: dict[str, list[tuple[str, dict[str, bytes]]]]) -> Path:
    infos = []
    for split, of_split in samples.items():
        path = folder / f"{split}-000000.tar"
        count = write_tar(path, of_split)
        infos.append(ShardInfo(path.name, split, count, path.stat().st_size, sha256_of(path)))
    write_manifest(folder, Manifest(tuple(infos), {"made": 1}, {}))
    return folder


def test_a_good_folder_has_no_problems(tmp_path: Path) -> None:
    assert check(write(tmp_path, {"train": [sample(0, "train"), sample(1, "train")], "val": [sample(2, "val")]})) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"size": [64, 48]}, "the picture is 48 x 64, its json says [64, 48]"),
        ({"split": "val"}, "its json says split val"),
        ({"caption": " "}, "no caption"),
        ({"x": 300, "v": 2}, "labelled keypoints outside the picture"),
        ({"x": 45}, "the right hand's keypoints are not in the mask"),
        ({"hands": 2}, "a mask of the left hand, but no keypoints"),
        ({"v": 0}, "a mask of the right hand, but no keypoints"),
        ({"hands": 0}, "no hand in the mask"),
    ],
)
def test_problems_of_a_sample(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    problems = check(write(tmp_path, {"train": [sample(0, "train", **changes)]}))
    assert any(line == f"train-000000.tar: made/0: {problem}" for line in problems), problems


def test_keys_and_people_that_come_twice(tmp_path: Path) -> None:
    twice = [sample(1, "train", subject="ann"), sample(2, "train")]
    problems = check(write(tmp_path, {"train": twice, "val": [sample(1, "val", subject="ann")]}))
    assert problems == ["val-000000.tar: made/1 is also in train-000000.tar", "person made/ann is in train and val"]


def test_changed_bytes_are_found_by_the_checksum(tmp_path: Path) -> None:
    path = write(tmp_path, {"train": [sample(0, "train")]}) / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(bytes(content))
    assert check(tmp_path) == ["train-000000.tar: its content is not what was written (SHA-256 differs)"]


def test_strangers_wrong_counts_and_missing_manifests(tmp_path: Path) -> None:
    write(tmp_path, {"train": [sample(0, "train")]})
    manifest = read_manifest(tmp_path)
    write_manifest(tmp_path, dataclasses.replace(manifest, shards=(dataclasses.replace(manifest.shards[0], count=7),)))
    write_tar(tmp_path / "old.tar", [])
    assert check(tmp_path) == [
        "train-000000.tar holds 1 samples, manifest.json says 7",
        "old.tar is not in manifest.json",
    ]
    (tmp_path / "manifest.json").unlink()
    assert len(check(tmp_path)) == 1


def test_stats_count(tmp_path: Path) -> None:
    found = stats(write(tmp_path, {"train": [sample(0, "train"), sample(1, "train")], "val": [sample(2, "val")]}))
    assert found["counts"] == {"train": 2, "val": 1}
    assert found["subjects"] == {"train": 2, "val": 1}
    assert found["hands"] == {"right": 3}
    assert found["gestures"] == {"palm": 3}
    assert found["sizes"] == {"48 x 64": 3}
    assert found["keypoints"] == [21, 21, 21]
    assert found["mask_pixels"] == [round(400 * (512 / 48) ** 2)] * 3
    assert found["made_by"] == {"pose": {"hand": 3}}


def test_preview_is_a_sheet_of_tiles(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards", {"train": [sample(i, "train") for i in range(7)]})
    sheet = load_image(preview(folder, tmp_path / "look" / "sheet.png", count=6))
    assert sheet.shape == (600, 1280, 3)
    assert load_image(preview(folder, tmp_path / "one.png", count=1)).shape == (300, 1280, 3)
    with pytest.raises(DataError, match="does not exist"):
        preview(tmp_path / "none", tmp_path / "x.png", 3)

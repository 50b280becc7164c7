"""HaGRID from its folders to shards: the annotated hand must be found, also in the real photographs."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.keys import parse
from data_prep.sources import Row, get_source
from data_prep.sources.hagrid import HagridOptions
from h2d.data.check import check
from h2d.data.schema import Sample
from h2d.data.shards import iter_samples, read_manifest
from h2d.images import load_image
from h2d.skeleton import BODY, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND

FAST = ("jobs=1", "chunk_size=8")
BOXES = [[0.1, 0.1, 0.2, 0.2], [0.25, 0.5, 0.25, 0.25]]
LABELS = json.dumps({"bboxes": BOXES, "labels": ["no_gesture", "call"]})
IMAGE = np.zeros((400, 200, 3), np.uint8)


def test_the_options_are_keys_of_the_command() -> None:
    assert parse("hagrid", ["gestures=all", "annotations=x"]).options == HagridOptions(Path("x"), "all")


def pose_with(right: tuple[float, float, float, float] | None, left: tuple[float, float, float, float] | None = None):
    """A pose whose hands fill the boxes x0, y0, x1, y1 (pixels); None is a hand that was not found."""
    pose = np.zeros((NUM_KEYPOINTS, 3), np.float32)
    pose[BODY] = (75, 250, 2)
    for part, box in ((RIGHT_HAND, right), (LEFT_HAND, left)):
        if box is not None:
            pose[part] = np.linspace((*box[:2], 2), (*box[2:], 2), 21)
    return pose


# the box is x 50..100, y 200..300 of a picture of 200 x 400
@pytest.mark.parametrize(
    ("right", "left", "fits"),
    [
        ((50, 200, 100, 300), None, True),
        (None, (60, 220, 90, 280), True),
        ((150, 20, 190, 60), (60, 220, 90, 280), True),
        ((20, 100, 170, 350), None, True),  # three times as wide, centre inside
        ((90, 200, 140, 300), None, True),  # centre outside, overlap 1000 of 9000 = 0.11
        ((94, 200, 144, 300), None, False),  # overlap 600 of 9400 = 0.06
        ((150, 20, 190, 60), None, False),
        ((20, 40, 60, 120), None, False),  # in the box of no_gesture
        (None, None, False),
        ((100, 50, 150, 100), None, False),  # where the box is in a picture lying on its side
    ],
)
def test_the_hand_that_shows_the_gesture_must_be_found(right: Any, left: Any, fits: bool) -> None:
    row = Row("hagrid/a", "call/a.jpg", gesture="call", labels=LABELS)
    objection = get_source("hagrid").objection(row, IMAGE, pose_with(right, left))
    assert objection == ("" if fits else "annotated hand not found: no hand in the box of call")


def test_keypoints_that_are_not_labelled_are_no_hand() -> None:
    pose = pose_with((50, 200, 100, 300)) * np.array([1, 1, 0], np.float32)
    row = Row("hagrid/a", "call/a.jpg", gesture="call", labels=LABELS)
    assert get_source("hagrid").objection(row, IMAGE, pose)


def test_an_entry_without_its_gesture() -> None:
    row = Row("hagrid/a", "rock/a.jpg", gesture="rock", labels=LABELS)
    objection = get_source("hagrid").objection(row, IMAGE, pose_with((50, 200, 100, 300)))
    assert objection == "annotated hand not found: no box is labelled rock"


def second_release(people: Path, root: Path) -> Path:
    shutil.copytree(people, root, ignore=shutil.ignore_patterns("exact", "synthetic.json"))
    return root


def first_release(people: Path, root: Path) -> Path:
    """The same people in the other layout, stored lying on their side with an EXIF rotation, without loss."""
    for path in people.glob("annotations/*/*.json"):
        part, entries = ("test" if path.parent.name == "test" else "train_val"), json.loads(path.read_bytes())
        target = root / f"ann_{part}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(target.read_bytes()) if target.exists() else {}
        target.write_text(json.dumps(before | entries))
        for name in entries:
            picture, exif = io.BytesIO(), Image.Exif()
            exif[0x0112] = 6
            lying = np.rot90(load_image(people / path.stem / f"{name}.jpg"))
            Image.fromarray(lying).save(picture, "PNG", exif=exif)
            image = root / part / path.stem / f"{name}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(picture.getvalue())
    return root


def prepare(root: Path, out: Path, *pairs: str) -> dict[str, Sample]:
    assert main(["all", "hagrid", f"root={root}", f"out={out}", *FAST, *pairs]) == 0
    assert check(out / "shards") == []
    splits = read_manifest(out / "shards").counts
    return {sample.key: sample for split in splits for sample in iter_samples(out / "shards", split)}


def reasons(out: Path) -> Counter[str]:
    paths = out.glob("*/rejected.jsonl")
    lines = [line for path in paths for line in path.read_text().splitlines()]
    return Counter(json.loads(line)["reason"].partition(":")[0] for line in lines)


def test_rotated_and_upright_people_of_two_releases_become_the_same_samples(
    people: Path, train_one_step: Callable[[Path, str], None], tmp_path: Path
) -> None:
    later = prepare(second_release(people, tmp_path / "later"), tmp_path / "a")
    first = prepare(first_release(people, tmp_path / "first"), tmp_path / "b")
    assert len(later) >= 6
    assert first.keys() == later.keys()
    for key, sample in later.items():
        assert np.array_equal(sample.pose, first[key].pose)
        assert sample.meta["gesture"].split("_")[0] in sample.caption
        assert (first[key].meta["split"] == "test") == (sample.meta["split"] == "test")
    train_one_step(tmp_path / "b" / "shards", "hand")


def test_a_box_somewhere_else_rejects_the_photograph(people: Path, tmp_path: Path) -> None:
    root = second_release(people, tmp_path / "root")
    for path in root.glob("annotations/*/*.json"):
        entries = json.loads(path.read_bytes())
        moved = {
            name: entry | {"bboxes": [[0.9, 0.0, 0.1, 0.05]] * len(entry["bboxes"])} for name, entry in entries.items()
        }
        path.write_text(json.dumps(moved))
    for stage in ("index", "keypoints"):
        main([stage, "hagrid", f"root={root}", f"out={tmp_path / 'out'}", *FAST])
    counted = reasons(tmp_path / "out")
    assert counted["annotated hand not found"] >= 6
    assert counted.keys() <= {"annotated hand not found", "no person found", "no hand found"}


def test_real_photographs_with_their_real_entries(photographs: Path, tmp_path: Path) -> None:
    found = prepare(photographs / "hagrid", tmp_path, "max_people=0", "min_mask_pixels=0")
    assert reasons(tmp_path) == {"no image file": 80}
    assert len(found) == 7
    assert Counter(sample.meta["split"] for sample in found.values()) == {"test": 5, "val": 2}
    assert {sample.meta["gesture"] for sample in found.values()} == {"call", "four", "one", "rock"}

"""Every release of HaGRID in every layout, damaged annotations, and what must never be mixed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from data_prep import index
from data_prep.job import Job
from data_prep.settings import Settings
from data_prep.sources import Row, get_source
from data_prep.sources.hagrid import HagridOptions
from h2d.data.schema import validate_key
from h2d.errors import DataError

BOX = [0.25, 0.5, 0.25, 0.25]
SECOND: dict[str, Any] = {"bboxes": [[0.1, 0.1, 0.2, 0.2], BOX], "labels": ["no_gesture", "call"], "user_id": "anna"}
FIRST = SECOND | {"landmarks": [[], [[0.3, 0.6]] * 21], "leading_hand": "left", "leading_conf": 1.0}
MILLION = SECOND | {"united_bbox": None, "united_label": None, "hand_landmarks": [[], []], "meta": {"age": [24.4]}}


def write(root: Path, annotations: dict[str, Any], images: Iterable[str] = ()) -> Path:
    for name, content in annotations.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def scan(root: Path, **options: Any) -> tuple[dict[str, Row], dict[str, str]]:
    """Usable rows and reasons of the others, by key."""
    entries = list(get_source("hagrid", HagridOptions(**options)).scan(root))
    good = {entry.key: entry for entry in entries if isinstance(entry, Row)}
    return good, {entry[0].key: entry[1] for entry in entries if isinstance(entry, tuple)}


LAYOUTS = {
    "first release": (
        {"ann_train_val/call.json": {"a": FIRST}, "ann_test/call.json": {"t": FIRST | {"user_id": "otto"}}},
        {"a": ("train_val/call/a.jpg", ""), "t": ("test/call/t.jpg", "test")},
    ),
    "first release, a folder for each archive": (
        {"ann_train_val/call.json": {"a": FIRST}, "ann_test/call.json": {"t": FIRST | {"user_id": "otto"}}},
        {"a": ("train_val_call/a.jpg", ""), "t": ("test_call/t.jpg", "test")},
    ),
    "first release, archives unpacked in one folder": (
        {"annotations/ann_train_val/call.json": {"a": FIRST}},
        {"a": ("train_val/train_val_call/a.jpg", "")},
    ),
    "a smaller copy of the first release, without landmarks": (
        {"ann_train_val/call.json": {"a": SECOND}},
        {"a": ("hagrid_500k/train_val_call/a.jpg", "")},
    ),
    "2.0": (
        {f"annotations/{split}/call.json": {split: SECOND | {"user_id": split}} for split in ("train", "val", "test")},
        {split: (f"call/{split}.jpg", split) for split in ("train", "val", "test")},
    ),
    "v2-1M, a folder deeper": (
        {"annotations/train/call.json": {"a": MILLION}},
        {"a": ("hagridv2_512/call/a.jpg", "train")},
    ),
    "a gesture in two folders": (
        {"annotations/train/call.json": {"a": SECOND, "b": SECOND}},
        {"a": ("call/a.jpg", "train"), "b": ("more/call/b.jpg", "train")},
    ),
}


@pytest.mark.parametrize(("annotations", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_release_in_every_layout(
    annotations: dict[str, Any], expected: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    good, rejected = scan(write(tmp_path, annotations, [image for image, _ in expected.values()]))
    assert rejected == {}
    assert {key: (row.image, row.split) for key, row in good.items()} == {
        f"hagrid/{name}": where for name, where in expected.items()
    }
    assert {row.gesture for row in good.values()} == {"call"}
    assert {row.subject for row in good.values()} <= {"anna", "otto", "train", "val", "test"}
    labels = {"bboxes": [[0.1, 0.1, 0.2, 0.2], BOX], "labels": ["no_gesture", "call"]}
    assert all(json.loads(row.labels) == labels for row in good.values())


@pytest.mark.parametrize("folder", ["ann_train_val", "annotations/train"])
def test_annotations_that_lie_apart(folder: str, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {f"{folder}/call.json": {"a": SECOND}})
    root = write(tmp_path / "root", {}, ["train_val/call/a.jpg" if "ann_" in folder else "call/a.jpg"])
    with pytest.raises(DataError, match=r"no annotation files in .*root"):
        scan(root)
    for place in {tmp_path / "elsewhere", (tmp_path / "elsewhere" / folder).parent}:
        assert list(scan(root, annotations=place)[0]) == ["hagrid/a"]
    with pytest.raises(DataError, match=r"no annotation files in .*nowhere"):
        scan(root, annotations=tmp_path / "nowhere")


def test_gestures_of_the_paper_or_all(tmp_path: Path) -> None:
    names = ("stop inverted", "hand_heart", "no_gesture")
    annotations = {f"annotations/train/{name}.json": {name[:4]: SECOND | {"labels": [name] * 2}} for name in names}
    annotations["annotations/train/._call.json"] = "what another file system keeps beside a file"
    root = write(tmp_path, annotations, ["stop_inverted/stop.jpg", "hand_heart/hand.jpg", "no_gesture/no_g.jpg"])
    good, _ = scan(root)
    assert [(row.image, row.gesture) for row in good.values()] == [("stop_inverted/stop.jpg", "stop_inverted")]
    assert json.loads(good["hagrid/stop"].labels)["labels"] == ["stop_inverted"] * 2
    assert {row.gesture for row in scan(root, gestures="all")[0].values()} == {
        "stop_inverted",
        "hand_heart",
        "no_gesture",
    }
    (root / "annotations" / "train" / "stop inverted.json").unlink()
    with pytest.raises(DataError, match="annotations of other gestures only: hand_heart, no_gesture"):
        scan(root)


BROKEN = [
    ("bboxes", {"bboxes": 3}),
    ("bboxes", {"bboxes": None}),
    ("bboxes", {"bboxes": [[0.1, 0.1, 0.2], BOX]}),
    ("bboxes", {"bboxes": [["0.1", 0.1, 0.2, 0.2], BOX]}),
    ("bboxes", {"bboxes": [[float("nan"), 0.1, 0.2, 0.2], BOX]}),
    ("bboxes", {"bboxes": [[0.1, 0.1, 10**400, 0.2], BOX]}),
    ("bboxes", {"bboxes": [[0.1, 0.1, 0, 0.2], BOX]}),
    ("bboxes", {"bboxes": [[100, 150, 80, 80], BOX]}),
    ("labels", {"labels": "call"}),
    ("labels", {"labels": [1, 2]}),
    ("labels", {"labels": None}),
    ("2 bboxes and 1 labels", {"labels": ["call"]}),
    ("user_id", {"user_id": ""}),
    ("user_id", {"user_id": None}),
    ("user_id", {"user_id": ["anna"]}),
    ("user_id", {"user_id": "\ud800"}),
]


@pytest.mark.parametrize(("word", "change"), BROKEN)
def test_a_broken_entry_is_rejected_and_its_neighbour_is_not(word: str, change: dict, tmp_path: Path) -> None:
    entries = {"good": SECOND, "bad": SECOND | change}
    root = write(tmp_path, {"annotations/train/call.json": entries}, ["call/good.jpg", "call/bad.jpg"])
    good, rejected = scan(root)
    assert list(good) == ["hagrid/good"]
    (reason,) = rejected.values()
    assert reason.startswith("broken annotation: ")
    assert word in reason


def test_boxes_may_leave_the_image(tmp_path: Path) -> None:
    entry = SECOND | {"bboxes": [[-0.02, 0.9, 0.3, 0.2], [0.9, -0.1, 0.3, 0.2]]}
    assert scan(write(tmp_path, {"annotations/train/call.json": {"a": entry}}, ["call/a.jpg"]))[0]


@pytest.mark.parametrize("content", ["", "nope", "[1]", '{"a": 3}', "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_a_file_that_is_no_map_is_named(content: str, tmp_path: Path) -> None:
    root = write(tmp_path, {"annotations/train/call.json": content}, ["call/a.jpg"])
    with pytest.raises(DataError, match=r"call\.json is not an annotation file"):
        scan(root)


def test_what_is_missing_is_named_with_its_origin(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no annotation files in") as caught:
        scan(tmp_path)
    assert "github.com/hukenovs/hagrid" in caught.value.hint
    with pytest.raises(DataError, match=r"no folders of images in .* such as call") as caught:
        scan(write(tmp_path, {"annotations/train/call.json": {"a": SECOND}}))
    assert "github.com/hukenovs/hagrid" in caught.value.hint
    good, rejected = scan(write(tmp_path, {}, ["call/other.jpg"]))
    assert (good, rejected) == ({}, {"hagrid/a": "no image file"})


def test_two_releases_never_mix(tmp_path: Path) -> None:
    files = {"ann_train_val/call.json": {"a": FIRST}, "annotations/test/call.json": {"a": SECOND}}
    with pytest.raises(DataError, match="HaGRID's first and of a later release"):
        scan(write(tmp_path, files, ["train_val/call/a.jpg", "call/a.jpg"]))


@pytest.mark.parametrize(("train", "test"), [("ann_train_val", "ann_test"), ("annotations/train", "annotations/test")])
def test_nobody_is_in_two_splits(train: str, test: str, tmp_path: Path) -> None:
    otto, part = SECOND | {"user_id": "otto"}, "train_val" if train == "ann_train_val" else "train"
    files = {f"{train}/call.json": {"a": SECOND, "b": otto}, f"{test}/rock.json": {"c": SECOND, "d": SECOND}}
    folders = ("train_val/call", "test/rock") if train == "ann_train_val" else ("call", "rock")
    images = [f"{folder}/{name}.jpg" for folder, names in zip(folders, ("ab", "cd"), strict=True) for name in names]
    good, rejected = scan(write(tmp_path, files, images))
    assert set(good) == {"hagrid/b", "hagrid/c", "hagrid/d"}, "what is for testing stays for testing"
    assert rejected == {"hagrid/a": f"user in two splits: test and {part}"}


def test_an_image_of_two_gestures_is_used_once(tmp_path: Path) -> None:
    files = {f"annotations/train/{gesture}.json": {"a": SECOND} for gesture in ("call", "rock")}
    root = write(tmp_path, files, ["call/a.jpg", "rock/a.jpg"])
    found = index.scan(Job("hagrid", Settings(), root, tmp_path / "out"))
    assert [row.key for row in found.rows] == ["hagrid/a"]
    assert [row["reason"] for row in found.rejected] == ["key comes twice"]


def test_names_that_are_no_names(tmp_path: Path) -> None:
    names = ("../up", "x/y", "\ud800", "n\0l", "a.b", "")
    files = {"annotations/train/call.json": dict.fromkeys(names, SECOND)}
    root = write(tmp_path, files, ["call/a.b.jpg", "up.jpg", "call/x/y.jpg"])
    found = index.scan(Job("hagrid", Settings(), root, tmp_path / "out"))
    assert [row.image for row in found.rows] == ["call/a.b.jpg"]
    assert len({validate_key(row.key) for row in found.rows} | {row["key"] for row in found.rejected}) == len(names)
    reasons = Counter(row["reason"] for row in found.rejected)
    assert reasons == {"no image file": 3, "path leaves the root": 1, "unusable key": 1}


def test_the_disk_is_not_asked_after_every_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"n{number}" for number in range(500)]
    files = {"annotations/train/call.json": dict.fromkeys(names, SECOND)}
    root = write(tmp_path, files, [f"call/{name}.jpg" for name in names])
    asked: list[Any] = []
    for name in ("stat", "scandir"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, _call=original, **kw: asked.append(args) or _call(*args, **kw))
    assert len(scan(root)[0]) == 500
    assert len(asked) < 50

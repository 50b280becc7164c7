from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.synthetic import GESTURES, generate, writing
from data_prep.synthetic.writing import assign_splits
from h2d.errors import ConfigError, DataError

COUNT, SIZE = 12, 96


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "people"
    report = generate(root, COUNT, 7, SIZE, supersampling=1)
    assert (report.rendered, report.reused) == (COUNT, 0)
    return root


def annotations(root: Path) -> dict[str, dict[str, dict]]:
    found: dict[str, dict[str, dict]] = {}
    for path in sorted(root.glob("annotations/*/*.json")):
        for name, entry in json.loads(path.read_text()).items():
            found.setdefault(path.parent.name, {})[name] = entry | {"gesture": path.stem}
    return found


def test_the_layout_is_hagrids(written: Path) -> None:
    splits = annotations(written)
    assert set(splits) == {"train", "val", "test"}
    names = {name: entry for entries in splits.values() for name, entry in entries.items()}
    assert len(names) == COUNT
    for name, entry in names.items():
        with Image.open(written / entry["gesture"] / f"{name}.jpg") as picture:
            assert (picture.format, picture.size) == ("JPEG", (SIZE, SIZE))
        assert set(entry) == {"bboxes", "labels", "user_id", "gesture"}
        assert entry["gesture"] in entry["labels"]
        assert set(entry["labels"]) <= {*GESTURES, "no_gesture"}
        boxes = np.array(entry["bboxes"])
        assert boxes.shape == (len(entry["labels"]), 4)
        assert boxes.min() >= 0
        assert (boxes[:, :2] + boxes[:, 2:]).max() <= 1 + 1e-6


def test_exact_labels_lie_beside(written: Path) -> None:
    records = sorted(written.glob("exact/*/*.json"))
    assert len(records) == COUNT
    for path in records:
        record = json.loads(path.read_text())
        pose = np.load(path.with_suffix(".pose.npy"), allow_pickle=False)
        assert (pose.shape, pose.dtype) == ((133, 3), np.float32)
        for suffix, values in ((".hands.png", {0, 1, 2}), (".person.png", {0, 255})):
            with Image.open(path.with_suffix(suffix)) as mask:
                assert mask.mode == "L"
                assert set(np.unique(np.asarray(mask))) <= values
        assert record["size"] == [SIZE, SIZE]
        assert record["gesture"] == path.parent.name == record["gestures"][record["leading_hand"]]
        assert {"sex", "skin", "hair", "top", "sleeve", "background"} <= set(record["attributes"])


def test_nobody_is_in_two_splits(written: Path) -> None:
    users = {split: {entry["user_id"] for entry in entries.values()} for split, entries in annotations(written).items()}
    assert sum(map(len, users.values())) == len(set().union(*users.values())) == COUNT // 2


@pytest.mark.parametrize("count", [10, 11, 17, 60, 200, 999])
def test_splits_have_their_shares_and_none_is_empty(count: int) -> None:
    splits = assign_splits(count, seed=3)
    sizes = {name: splits.count(name) for name in ("train", "val", "test")}
    assert sum(sizes.values()) == count
    assert min(sizes.values()) >= 1
    for name, share in writing.SPLITS.items():
        assert abs(sizes[name] - share * count) <= 4


def test_two_processes_write_the_same_bytes(written: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", COUNT, 7, SIZE, jobs=2, supersampling=1)
    assert content(tmp_path / "again") == content(written)


def test_a_second_run_does_nothing(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    monkeypatch.setattr(writing, "render_person", None)
    assert generate(written, COUNT, 7, SIZE, supersampling=1).reused == COUNT
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_a_killed_run_continues(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, render, done = tmp_path / "killed", writing.render_person, []

    def dies_after_four(*args: object, **options: object) -> object:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(args)
        return render(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "render_person", dies_after_four)
    with pytest.raises(KeyboardInterrupt):
        generate(root, COUNT, 7, SIZE, supersampling=1)
    assert not (root / "annotations").exists()
    monkeypatch.setattr(writing, "render_person", render)
    report = generate(root, COUNT, 7, SIZE, supersampling=1)
    assert (report.rendered, report.reused) == (COUNT - 4, 4)
    assert content(root) == content(written)


def test_other_arguments_are_refused(written: Path) -> None:
    with pytest.raises(DataError, match="seed=7 there, seed=8 asked") as caught:
        generate(written, COUNT, 8, SIZE, supersampling=1)
    assert "another folder" in caught.value.hint


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="not an empty folder"):
        generate(tmp_path, 2, 0, SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_damaged_marker_is_named(tmp_path: Path) -> None:
    (tmp_path / writing.MARKER).write_text("{")
    with pytest.raises(DataError, match=writing.MARKER):
        generate(tmp_path, 2, 0, SIZE)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"seed": -1}, {"size": 8}, {"jobs": 0}, {"supersampling": 0}])
def test_impossible_arguments_are_refused_before_anything_is_written(tmp_path: Path, wrong: dict[str, int]) -> None:
    root = tmp_path / "people"
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        generate(root, **({"count": 2, "seed": 0, "size": SIZE} | wrong))
    assert not root.exists()

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from data_prep import index
from data_prep.job import Job
from data_prep.settings import Settings
from data_prep.sources import Row, get_source
from data_prep.sources.hagrid_layout import HagridLayout, read_annotations
from h2d.data.schema import validate_key
from h2d.errors import ConfigError, DataError


def job(root: Path, dataset: str = "folder", **settings: object) -> Job:
    return Job(dataset, Settings(**settings), root, root.parent / "out")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("a.jpg", "b/a.JPG", "c d/ü.v1.jpeg", "e.webp", "f.tiff", ".hidden.png", ".git/g.png", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_pictures_are_found_by_extension_and_get_safe_unique_keys(photos: Path) -> None:
    counts, worked = index.run(job(photos))
    rows = job(photos).rows()
    assert (counts.read, counts.written, counts.rejected, worked) == (5, 5, [], True)
    assert {row.image for row in rows} == {"a.jpg", "b/a.JPG", "c d/ü.v1.jpeg", "e.webp", "f.tiff"}
    assert len({validate_key(row.key) for row in rows}) == 5
    assert all(row.key.startswith("folder/") for row in rows)


def test_what_stays_out_is_counted_with_its_reason(photos: Path) -> None:
    (photos / "album").symlink_to(photos / "b", target_is_directory=True)
    (photos / "b" / "g.HEIC").touch()
    counts, _ = index.run(job(photos))
    assert counts.line() == "read 7 = written 5 + rejected 2 (1 format not read, 1 link to a folder)"


def test_an_empty_root_is_forgotten(photos: Path) -> None:
    (photos.parent / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        index.run(job(photos.parent / "empty"))
    assert index.run(job(photos))[1]


def test_the_index_does_not_depend_on_the_order_of_the_file_system(photos: Path) -> None:
    rows, *_ = index.scan(job(photos))
    assert rows == index.scan(job(photos)).rows
    assert [row.key for row in rows] != sorted(row.key for row in rows), "neighbours are unrelated"
    limited, *_ = index.scan(job(photos, limit=3))
    assert [row.key for row in limited] == [row.key for row in rows[:3]]


def test_names_that_are_no_text_are_names_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "root") + b"/\xff\xfe.jpg")).touch()
    index.run(job(tmp_path / "root"))
    (row,) = job(tmp_path / "root").rows()
    assert (tmp_path / "root" / row.image).is_file()
    assert validate_key(row.key).startswith("folder/image-")


def test_two_images_are_enough_for_a_validation_image(photos: Path) -> None:
    for limit in (2, 3, 5):
        rows, *_ = index.scan(job(photos, limit=limit))
        assert {row.split for row in rows} == {"train", "val"}
    assert [row.split for row in index.scan(job(photos, limit=1)).rows] in (["train"], ["val"])


def test_about_a_tenth_is_validation(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(400):
        (tmp_path / "many" / f"{number}.jpg").touch()
    rows, *_ = index.scan(job(tmp_path / "many"))
    assert 20 <= sum(row.split == "val" for row in rows) <= 60


def test_a_second_run_leaves_it_and_other_settings_are_an_error(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.run(job(photos))
    before = (photos.parent / "out" / "index.jsonl").read_bytes()
    (photos / "new.jpg").touch()
    (photos / "a.jpg").unlink()
    counts, worked = index.run(job(photos))
    assert (counts.read, worked) == (5, False)
    assert "has changed (1 new, 1 gone); the index stays as it was" in capsys.readouterr().out
    assert (photos.parent / "out" / "index.jsonl").read_bytes() == before
    with pytest.raises(ConfigError, match="limit=none, not 2"):
        index.run(job(photos, limit=2))


def test_an_empty_root_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in root="):
        index.run(job(tmp_path / "empty"))


def test_synthetic_people_bring_splits_subjects_and_gestures(people: Path) -> None:
    rows, rejected, _ = index.scan(Job("synthetic", Settings(), people, people.parent))
    assert len(rows) == 9
    assert rejected == []
    assert {row.split for row in rows} == {"train", "val", "test"}
    subjects: dict[str, set[str]] = {}
    for row in rows:
        subjects.setdefault(row.subject, set()).add(row.split)
        labels = get_source("synthetic").labels(people, row)
        assert labels.pose is not None
        assert labels.pose.shape == (133, 3)
        assert labels.hands is not None
        assert labels.attributes is not None
        assert labels.attributes["gesture"] == row.gesture
    assert all(len(splits) == 1 for splits in subjects.values())


def test_annotations_without_images_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    (root / "annotations" / "val").mkdir(parents=True)
    (root / "call").mkdir()
    (root / "call" / "a-1.jpg").touch()
    entries = {name: {"bboxes": [], "labels": [], "user_id": "u"} for name in ("a-1", "a-2", "../up")}
    (root / "annotations" / "val" / "call.json").write_text(json.dumps(entries))
    rows, rejected, _ = index.scan(Job("synthetic", Settings(), root, tmp_path))
    assert [row.key for row in rows] == ["synthetic/a-1"]
    assert sorted(row["reason"] for row in rejected) == ["no image file", "path leaves the root"]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 3}', "nope"])
def test_damaged_annotation_files(tmp_path: Path, content: str) -> None:
    (tmp_path / "call.json").write_text(content)
    with pytest.raises(DataError, match=r"call\.json is not an annotation file"):
        read_annotations(tmp_path / "call.json")


def test_real_annotation_files_of_hagrid(photographs: Path) -> None:
    source = HagridLayout()
    source.name = "hagrid"
    entries = list(source.scan(photographs / "hagrid"))
    rows = [entry if isinstance(entry, Row) else entry[0] for entry in entries]
    assert len(rows) == 87
    assert {row.split for row in rows} == {"val", "test"}
    assert all(row.subject for row in rows)
    assert len({validate_key(row.key) for row in rows}) == len(rows)

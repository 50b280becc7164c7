from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.annotators.pose import PoseResult
from h2d.data.schema import encode_sample
from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
from h2d.errors import DataError
from h2d.files import sha256_of
from h2d.images import encode_jpeg, encode_png
from h2d.poses.scene import Scene
from h2d.poses.sources import read_scene, sources_in

Build = Callable[..., np.ndarray]


@pytest.fixture
def shards(tmp_path: Path, pose: Build) -> Path:
    """One training and two validation samples; the last one shows nobody."""
    folder, infos = tmp_path / "shards", []
    poses = {"train/a": pose(right=(20, 40, 20)), "val/b": pose(left=(30, 40, 10)), "val/c": pose()}
    for split, keys in (("train", ["train/a"]), ("val", ["val/b", "val/c"])):
        samples = []
        for key in keys:
            image, hands = np.full((50, 60, 3), 70, np.uint8), np.zeros((50, 60), np.uint8)
            hands[10:20, 5:15] = 2
            meta = {"schema": 1, "key": key}
            samples.append((key, encode_sample(key, encode_png(image), "png", hands, poses[key], f"of {key}", meta)))
        path = folder / f"{split}-000000.tar"
        write_tar(path, samples)
        infos.append(ShardInfo(path.name, split, len(keys), path.stat().st_size, sha256_of(path)))
    write_manifest(folder, Manifest(tuple(infos), {"test": 3}, {}))
    return folder


@pytest.mark.parametrize("source", ["{}", "{}::val/b", "{}/val-000000.tar::val/b"])
def test_samples_of_shards(source: str, shards: Path, pose: Build) -> None:
    scene = read_scene(source.format(shards))
    assert scene.name.endswith("::val/b")
    assert scene.caption == "of val/b"
    assert scene.people.tobytes() == pose(left=(30, 40, 10)).tobytes()
    assert scene.people.shape == (1, 133, 3)
    assert scene.hands is not None
    assert (scene.hands == 2).sum() == 100
    assert scene.has_picture
    assert (scene.image == 70).all()


def test_samples_that_are_not_there_or_show_nobody(shards: Path) -> None:
    with pytest.raises(DataError, match="has no sample 'val/z'"):
        read_scene(f"{shards}::val/z")
    with pytest.raises(DataError, match=r"val/c: no keypoint is labelled"):
        read_scene(f"{shards}::val/c")


def test_a_folder_of_photographs_stands_for_its_pictures(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    (folder / "below").mkdir(parents=True)
    for name in ("b.PNG", "a.jpg", "notes.txt", "thumbs.db"):
        (folder / name).touch()
    assert sources_in(str(folder)) == [str(folder / "a.jpg"), str(folder / "b.PNG")]
    assert sources_in(str(folder / "below")) == [str(folder / "below")], "an empty one is refused as it was named"
    for other in (str(shards), f"{shards}::val/b", "absent.jpg", "", "a" * 400):
        assert sources_in(other) == [other]
    with pytest.raises(DataError, match="below is not a folder of shards"):
        read_scene(str(folder / "below"))


@pytest.mark.parametrize("source", ["a.json", "a.jpg", "folder::key", "a.tar::key", "a.json::3", "a" * 400, ""])
def test_missing_sources_are_named(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        read_scene(source)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "null", "\x00", "[" * 100_000, '{"people": 3}', "[[1]]", "[{}]"])
def test_other_files_are_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pose.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"pose\.json") as caught:
        read_scene(str(path))
    assert caught.value.hint


def test_at_least_one_person_is_asked_for() -> None:
    with pytest.raises(ValueError, match="people must be at least 1, not 0"):
        read_scene("a.json", 0)


def test_the_content_decides_not_the_name(tmp_path: Path, pose: Build) -> None:
    own = {"keypoints": pose(right=(20, 40, 20)).tolist(), "width": 60, "height": 50}
    (tmp_path / "keypoints.jpg").write_text("\ufeff\n  " + json.dumps(own))
    assert not read_scene(str(tmp_path / "keypoints.jpg")).has_picture
    (tmp_path / "photo.json").write_bytes(encode_jpeg(np.full((50, 60, 3), 70, np.uint8)))
    person = pose(left=(30, 40, 10))
    found = PoseResult(person, 1.0, frozenset({"left_hand"}))
    scene = read_scene(str(tmp_path / "photo.json"), 1, lambda images: [found for _ in images])
    assert scene.has_picture
    assert scene.people[0].tolist() == person.tolist()


def test_a_name_with_colons_is_a_name(tmp_path: Path, pose: Build) -> None:
    path = tmp_path / "a::b.json"
    path.write_text(json.dumps({"keypoints": pose(right=(20, 40, 20)).tolist(), "width": 60, "height": 50}))
    assert read_scene(str(path)).people.shape == (1, 133, 3)
    (tmp_path / "own.json").write_text(path.read_text())
    with pytest.raises(DataError, match="no COCO annotation file: it has no image '7'"):
        read_scene(f"{tmp_path}/own.json::7")


STRANGE = [
    None,
    True,
    -1,
    0,
    3,
    1e30,
    float("nan"),
    float("inf"),
    10**400,
    "",
    "x",
    [],
    {},
    [[]],
    [[[]]],
    [None],
    {"a": 1},
]


def _own(pose: np.ndarray) -> Any:
    return {"keypoints": [pose.tolist(), pose.tolist()], "width": 60, "height": 50}


def _openpose(pose: np.ndarray) -> Any:
    hand = pose[112:].ravel().tolist()
    person = {"pose_keypoints_2d": [], "hand_left_keypoints_2d": hand, "hand_right_keypoints_2d": hand}
    return [{"people": [person, dict(person)], "canvas_width": 60, "canvas_height": 50}]


def _coco(pose: np.ndarray) -> Any:
    hand = pose[112:].ravel().tolist()
    person = {"id": 1, "image_id": 1, "keypoints": [0] * 51, "righthand_kpts": hand, "righthand_valid": True}
    return {"images": [{"id": 1, "file_name": "a", "width": 60, "height": 50}], "annotations": [person]}


@pytest.mark.parametrize("form", [_own, _openpose, _coco])
def test_whatever_a_file_holds_it_is_read_or_named(
    form: Callable[[np.ndarray], Any], pose: Build, tmp_path: Path
) -> None:
    """A few hundred files with one value replaced, removed or doubled, at any depth."""
    path, dice, read = tmp_path / "fuzzed.json", random.Random(0), 0
    for _ in range(300):
        content = form(pose(right=(20, 40, 20)))
        _damage(content, dice)
        path.write_text(json.dumps(content))
        result = _read(path, dice.choice([1, 5]))
        read += isinstance(result, Scene)
        if isinstance(result, Scene):
            _check(result)
        else:
            assert "fuzzed.json" in result.message
            assert result.hint
            assert len(result.message) < 400
    assert 10 < read < 290


def _read(path: Path, people: int) -> Scene | DataError:
    try:
        return read_scene(str(path), people)
    except DataError as error:
        return error


def _damage(content: Any, dice: random.Random) -> None:
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = dice.choice(keys)
    if isinstance(content[key], (dict, list)) and content[key] and dice.random() < 0.8:
        return _damage(content[key], dice)
    if dice.random() < 0.7:
        content[key] = dice.choice(STRANGE)
    elif isinstance(content, list) and dice.random() < 0.5:
        content.append(content[key])
    else:
        del content[key]
    return None


def _check(scene: Scene) -> None:
    assert scene.people.dtype == np.float32
    assert scene.people.shape[1:] == (133, 3)
    assert np.isfinite(scene.people).all()
    assert np.isin(scene.people[..., 2], (0, 1, 2)).all()
    assert (scene.people[..., 2] > 0).any(axis=1).all()

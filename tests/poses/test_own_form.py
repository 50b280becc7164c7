from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.errors import DataError
from h2d.poses.scene import Scene
from h2d.poses.sources import read_scene
from h2d.poses.writing import write_pose

POINTS = [[10.0, 20.0, 2.0]] * 133
BOX = [[10.0, 20.0, 2]] * 132 + [[30.0, 50.0, 1]]


def _write(path: Path, **changes: Any) -> str:
    path.write_text(json.dumps({"keypoints": POINTS, "width": 64, "height": 48, **changes}))
    return str(path)


def test_keypoints_become_a_person(tmp_path: Path) -> None:
    points = [[float(i), i / 8, i % 3] for i in range(133)]
    scene = read_scene(_write(tmp_path / "pose.json", keypoints=points))
    assert scene.people.dtype == np.float32
    assert scene.people[0].tolist() == points
    assert scene.image.shape == (48, 64, 3)
    assert not scene.image.any()
    assert (scene.has_picture, scene.hands, scene.caption) == (False, None, "")
    assert scene.name == str(tmp_path / "pose.json")


def test_the_most_prominent_are_taken_in_the_order_of_the_file(tmp_path: Path) -> None:
    small, large, middle, nobody = (np.array(BOX) for _ in range(4))
    small[132, :2], large[132, :2], middle[132, :2] = (11, 21), (60, 40), (30, 30)
    nobody[:, 2] = 0
    people = [nobody.tolist(), small.tolist(), large.tolist(), middle.tolist()]
    path = _write(tmp_path / "pose.json", keypoints=people)
    found = {count: read_scene(path, count).people[:, 132, 0].tolist() for count in (1, 2, 3, 9)}
    assert found == {1: [60], 2: [60, 30], 3: [11, 60, 30], 9: [11, 60, 30]}


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_written_is_read_back(count: int, scene: Callable[..., Scene], tmp_path: Path) -> None:
    rng = np.random.default_rng(count)
    people = rng.normal(100, 300, (count, 133, 3)).astype(np.float32)
    people[..., 2] = rng.integers(0, 3, (count, 133))
    people[0, 0, :2] = 1e-7, 12.3
    write_pose(tmp_path / "p.json", scene(70, 50, *people))
    back = read_scene(str(tmp_path / "p.json"), count)
    assert back.people.tobytes() == people.tobytes()
    assert back.image.shape == (50, 70, 3)
    content = json.loads((tmp_path / "p.json").read_text())
    assert np.shape(content["keypoints"]) == ((133, 3) if count == 1 else (count, 133, 3))
    write_pose(tmp_path / "p.json", replace(back, people=back.people[:1]))
    assert read_scene(str(tmp_path / "p.json")).people.tobytes() == people[:1].tobytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": POINTS[:132]}, "person 1 has 132 keypoints, not 133"),
        ({"keypoints": [POINTS, POINTS[:7]]}, "person 2 has 7 keypoints, not 133"),
        ({"keypoints": [POINTS, "you"]}, "person 2 is str 'you', not a list"),
        ({"keypoints": [[0, 0, 3.0]] * 133}, "keypoint 0 has v = 3"),
        ({"keypoints": [[0, 0, 0.0]] * 133}, "no keypoint of anybody in it is labelled"),
        ({"keypoints": []}, "it lists nobody"),
        ({"keypoints": [[float("nan"), 0, 2.0]] * 133}, "keypoint 0: number 0 is nan"),
        ({"keypoints": [[0, 10**400, 2.0]] * 133}, "keypoint 0: number 1 is 1000"),
        ({"keypoints": [[0, -1e7, 2.0]] * 133}, "number 1 is -10000000.0"),
        ({"keypoints": [[0, "1", 2.0]] * 133}, "number 1 is '1'"),
        ({"keypoints": [[0, 1, True]] * 133}, "number 2 is True"),
        ({"keypoints": "many"}, "keypoints is str 'many', not a list"),
        ({"keypoints": None}, "keypoints is null, not a list"),
        ({"keypoints": [[1, 2]] * 133}, "keypoint 0 has 2 numbers, not 3"),
        ({"width": 0}, "width is 0"),
        ({"width": -3}, "width is -3"),
        ({"width": 20.5}, "width is 20.5"),
        ({"height": 10**9}, "height is 1000000000"),
        ({"height": None}, "height is None"),
        ({"width": float("inf")}, "width is inf"),
        ({"width": 20_000, "height": 20_000}, "more than 100 million pixels"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_scene(_write(tmp_path / "pose.json", **changes))
    assert str(tmp_path / "pose.json") in caught.value.message
    assert message in caught.value.message


@pytest.mark.parametrize("name", ["width", "height"])
def test_the_size_must_be_given(name: str, tmp_path: Path) -> None:
    path = tmp_path / "pose.json"
    content = {"keypoints": POINTS, "width": 6, "height": 6}
    path.write_text(json.dumps(content | {name: "six"}))
    with pytest.raises(DataError, match=f"{name} is 'six'"):
        read_scene(str(path))
    del content[name]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"has no {name}"):
        read_scene(str(path))

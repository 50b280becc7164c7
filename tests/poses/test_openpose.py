from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.errors import DataError
from h2d.poses.sources import read_scene
from h2d.skeleton import BODY_NAMES, FACE, FEET_NAMES, LEFT_HAND, RIGHT_HAND

# The two orders as OpenPose documents them (doc/02_output.md), in its own words.
OPENPOSE_18 = (
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist RHip RKnee RAnkle LHip LKnee LAnkle REye LEye REar LEar"
)
BODY_25 = (
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist MidHip RHip RKnee RAnkle LHip LKnee LAnkle REye LEye "
    "REar LEar LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel"
)


def _flat(count: int, start: float = 10, confidence: float = 0.9) -> list[float]:
    """Keypoint i at x = start + i, y = 2 x."""
    return [number for i in range(count) for number in (start + i, 2 * (start + i), confidence)]


def _write(path: Path, *people: dict[str, Any], **changes: Any) -> str:
    path.write_text(json.dumps({"people": list(people), "canvas_width": 300, "canvas_height": 400, **changes}))
    return str(path)


def _words(name: str) -> str:
    side, _, part = name.partition("_")
    return name.capitalize() if not part else side[0].upper() + part.title().replace("_", "")


@pytest.mark.parametrize("names", [OPENPOSE_18, BODY_25], ids=["18", "25"])
def test_joints_arrive_under_their_names(names: str, tmp_path: Path) -> None:
    joints = names.split()
    person = read_scene(_write(tmp_path / "p.json", {"pose_keypoints_2d": _flat(len(joints))})).people[0]
    for index, name in enumerate((*BODY_NAMES, *FEET_NAMES)):
        there = joints.index(_words(name)) if _words(name) in joints else None
        expected = [10 + there, 20 + 2 * there, 2] if there is not None else [0, 0, 0]
        assert person[index].tolist() == expected, name
    assert not person[len(BODY_NAMES) + len(FEET_NAMES) :].any()


def test_hands_and_face_arrive_on_their_sides(tmp_path: Path) -> None:
    parts = {"hand_left_keypoints_2d": _flat(21, 50), "hand_right_keypoints_2d": _flat(21, 100)}
    scene = read_scene(_write(tmp_path / "p.json", parts | {"face_keypoints_2d": _flat(70, 150)}))
    assert scene.people[0, LEFT_HAND, 0].tolist() == list(range(50, 71))
    assert scene.people[0, RIGHT_HAND, 0].tolist() == list(range(100, 121))
    assert scene.people[0, FACE, 0].tolist() == list(range(150, 218)), "without the pupils"
    assert scene.image.shape == (400, 300, 3)
    assert not scene.has_picture


@pytest.mark.parametrize("absent", [None, []])
def test_parts_may_be_absent(absent: Any, tmp_path: Path) -> None:
    parts = {"hand_left_keypoints_2d": absent, "hand_right_keypoints_2d": _flat(21), "face_keypoints_2d": absent}
    person = read_scene(_write(tmp_path / "p.json", parts)).people[0]
    assert (person[:, 2] > 0).sum() == 21


def test_doubtful_points_are_left_out(tmp_path: Path) -> None:
    flat = _flat(18)
    flat[2], flat[5], flat[8] = 0.05, 0.5, 0.06  # nose, neck, right shoulder
    person = read_scene(_write(tmp_path / "p.json", {"pose_keypoints_2d": flat})).people[0]
    assert person[0].tolist() == [0, 0, 0]
    assert person[BODY_NAMES.index("right_shoulder")].tolist() == [12, 24, 2]


def test_shares_of_the_canvas_become_pixels(tmp_path: Path) -> None:
    shares = [number for i in range(21) for number in (i / 20, 1 - i / 20, 1.0)]
    shares[3] = 1.02  # a little outside
    person = read_scene(_write(tmp_path / "p.json", {"hand_right_keypoints_2d": shares})).people[0]
    assert person[RIGHT_HAND][10, :2] == pytest.approx([150, 200])
    assert person[RIGHT_HAND][20, :2] == pytest.approx([300, 0])
    assert person[RIGHT_HAND][1, :2] == pytest.approx([306, 380])


def test_a_list_of_one_frame_is_that_frame(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    frame = {"people": [{"pose_keypoints_2d": _flat(18)}], "canvas_width": 300, "canvas_height": 400}
    path.write_text(json.dumps([frame]))
    assert read_scene(str(path)).people.shape == (1, 133, 3)
    path.write_text(json.dumps([frame, frame]))
    with pytest.raises(DataError, match="holds 2 frames, not one"):
        read_scene(str(path))


def test_the_largest_come_first(tmp_path: Path) -> None:
    people = [{"pose_keypoints_2d": _flat(18, start)} for start in (10, 20, 30)]
    for person, scale in zip(people, (1, 3, 2), strict=True):
        person["pose_keypoints_2d"] = [n * scale if i % 3 < 2 else n for i, n in enumerate(person["pose_keypoints_2d"])]
    path = _write(tmp_path / "p.json", *people, {"pose_keypoints_2d": _flat(18, confidence=0)})
    assert read_scene(path, 9).people[:, 0, 0].tolist() == [60, 60, 10]
    assert read_scene(path, 9).people[:, 5, 0].tolist() == [75, 70, 15]
    assert read_scene(path).people[:, 5, 0].tolist() == [75]


@pytest.mark.parametrize(
    ("person", "message"),
    [
        ({"hand_left_keypoints_2d": _flat(20)}, "person 1: hand_left_keypoints_2d has 60 numbers, not 63"),
        (
            {"pose_keypoints_2d": _flat(17)},
            "pose_keypoints_2d has 51 numbers, not 54 (18 x 3) or 75 (25 x 3)",
        ),
        ({"face_keypoints_2d": "smile"}, "face_keypoints_2d is str 'smile', not a list"),
        ({"face_keypoints_2d": 0}, "face_keypoints_2d is int 0, not a list"),
        ({"pose_keypoints_2d": [None, *_flat(18)[1:]]}, "pose_keypoints_2d: number 0 is None"),
        ({"pose_keypoints_2d": [float("nan"), *_flat(18)[1:]]}, "pose_keypoints_2d: number 0 is nan"),
        ({"pose_keypoints_2d": _flat(18, confidence=0)}, "no keypoint of anybody in it is labelled"),
        (None, "person 1 is null, not an object"),
        ([], "person 1 is list [], not an object"),
    ],
)
def test_what_is_wrong_is_named(person: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_scene(_write(tmp_path / "p.json", person))
    assert message in caught.value.message
    assert "p.json" in caught.value.message


def test_a_file_without_people_or_size_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it lists nobody"):
        read_scene(_write(tmp_path / "p.json"))
    with pytest.raises(DataError, match="people is null"):
        read_scene(_write(tmp_path / "p.json", people=None))
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"version": 1.3, "people": [{"pose_keypoints_2d": _flat(25)}]}))
    with pytest.raises(DataError, match="has no canvas_width") as caught:
        read_scene(str(path))
    assert "add canvas_width and canvas_height" in caught.value.hint


def test_a_width_may_be_written_with_a_point(tmp_path: Path) -> None:
    path = _write(tmp_path / "p.json", {"pose_keypoints_2d": _flat(18)}, canvas_width=300.0)
    assert np.shape(read_scene(path).image) == (400, 300, 3)

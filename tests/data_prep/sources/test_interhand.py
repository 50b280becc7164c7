from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.sources import Row
from data_prep.sources.interhand import Interhand, InterhandOptions, gesture_words
from data_prep.sources.interhand_annotations import Annotations
from h2d.data.schema import validate_key
from h2d.errors import ConfigError, DataError
from h2d.images import load_image
from h2d.skeleton import HANDS, LEFT_HAND, RIGHT_HAND

PIN_KEYS = {
    "interhand/test_c3_400026_69148": {0: (178.689, 184.957), 41: (193.288, 260.339)},
    "interhand/test_c2_400012_44669": {0: (204.292, 94.252), 41: (266.007, 235.773)},
    "interhand/test_c7_410053_29590": {21: (84.852, 126.725), 41: (200.337, 200.635)},
    "interhand/test_c4_410028_2017": {0: (207.786, 43.323), 20: (175.528, 180.946)},
}
"""Places of joints in the four real photographs, found by another program and looked at."""


def scanned(source: Interhand, root: Path) -> tuple[dict[str, Row], dict[str, str]]:
    """The completed rows by key, and the reasons of the others by key."""
    entries = list(source.scan(root))
    rejected = {entry[0].key: entry[1] for entry in entries if isinstance(entry, tuple)}
    rows = source.complete(root, [entry for entry in entries if isinstance(entry, Row)])
    return {row.key: row for row in rows}, rejected


@pytest.fixture
def real(photographs: Path, tmp_path: Path) -> Path:
    """The four real photographs in the places of version 1.0."""
    start = photographs / "interhand2.6m"
    if not start.is_dir():
        pytest.skip("no photographs of InterHand2.6M on this machine")
    notes, root = tmp_path / "annotations" / "test", tmp_path
    notes.mkdir(parents=True)
    for kind in ("data", "camera", "joint_3d"):
        content = json.loads((start / f"test_interhand2.6m_{kind}.json").read_bytes())
        for image in content["images"] if kind == "data" else ():
            name = f"Capture{image['capture']}/{image['seq_name']}/cam{image['camera']}/{image['file_name']}"
            (root / "images/test" / name).parent.mkdir(parents=True)
            (root / "images/test" / name).write_bytes((start / image["file_name"]).read_bytes())
            image["file_name"] = name
        (notes / f"InterHand2.6M_test_{kind}.json").write_text(json.dumps(content))
    return root


def test_joints_of_the_real_photographs_lie_where_they_were_seen(real: Path) -> None:
    rows, rejected = scanned(Interhand(InterhandOptions(splits="test", cameras="all")), real)
    assert rejected == {}
    for key, pins in PIN_KEYS.items():
        joints = json.loads(rows[key].labels)["joints"]
        for number, pin in pins.items():
            assert np.allclose(joints[number], pin, atol=0.01), (key, number)
    left_only = json.loads(rows["interhand/test_c7_410053_29590"].labels)["joints"]
    assert left_only[:21] == [None] * 21
    annotations = Annotations(real, "test")
    frame = dict(annotations.frames())["3", "69148"]
    assert abs(annotations.cameras()["3", "400026"].project(frame.joints)[41, 2] - 1168.814) < 0.001


def margins(joints: list[list[float] | None], box: list[float]) -> np.ndarray:
    """How far the box goes beyond the joints on each side, as shares of its size."""
    points = np.array([point for point in joints if point])
    size, low = np.array(box[2:]), np.array(box[:2])
    return np.concatenate([(points.min(axis=0) - low) / size, (low + size - points.max(axis=0)) / size])


def check_boxes(rows: dict[str, Row], data: dict[str, Any]) -> int:
    boxes = {entry["image_id"]: entry["bbox"] for entry in data["annotations"]}
    for image in data["images"]:
        row = rows.get(f"interhand/test_c{image['capture']}_{image['camera']}_{image['frame_idx']}")
        if row is not None:
            assert np.allclose(margins(json.loads(row.labels)["joints"], boxes[image["id"]]), 1 / 12, atol=1e-4)
    return len(data["images"])


def test_boxes_of_the_real_annotations_are_those_of_the_joints(real: Path) -> None:
    rows, _ = scanned(Interhand(InterhandOptions(splits="test", cameras="all")), real)
    data = json.loads((real / "annotations/test/InterHand2.6M_test_data.json").read_bytes())
    assert check_boxes(rows, data) == 4


def test_boxes_of_the_miniature_are_those_of_the_joints(mini_interhand: Any) -> None:
    rows, _ = scanned(Interhand(), mini_interhand.write())
    assert check_boxes(rows, mini_interhand.data["test"]) >= 1


def test_rows_say_what_the_annotations_say_and_reasons_why_images_stay_out(mini_interhand: Any) -> None:
    root = mini_interhand.write()
    rows, rejected = scanned(Interhand(), root)
    split = min(mini_interhand.data)
    assert {key.split("_")[2]: reason for key, reason in rejected.items()} == {
        "410053": "grey camera",
        "400028": "no image file",
        "400029": "kind of hand not valid",
        "400030": "no valid joints",
    }
    assert len(rows) == 10
    row = rows[f"interhand/{split}_c0_400026_69148"]
    assert (row.split, row.subject, row.gesture) == (split, f"{split}-5", "0266_dh_pray")
    assert row.image == f"images/{split}/Capture0/0266_dh_pray/cam400026/image69148.jpg"
    assert all(validate_key(key) for key in rows)
    assert f"interhand/{split}_c0_410053_69148" in scanned(Interhand(InterhandOptions(cameras="all")), root)[0]


def test_poses_are_those_from_which_the_joints_were_made(
    mini_interhand: Any, without_unseen_hands: Callable[[np.ndarray], np.ndarray]
) -> None:
    root = mini_interhand.write()
    rows, _ = scanned(Interhand(), root)
    for key, row in rows.items():
        pose, truth = Interhand().labels(root, row).pose, without_unseen_hands(mini_interhand.poses[key])
        assert pose is not None
        assert (pose.dtype, pose.shape) == (np.float32, (133, 3))
        assert np.array_equal(pose[:, 2], truth[:, 2]), key
        assert np.abs(pose - truth).max() < 0.001, key


def both_hands(mini: Any) -> tuple[str, int, dict[str, Any], dict[str, Any]]:
    """Split, place, annotation and moment of a miniature's image with both hands wholly in view."""
    for split, data in mini.data.items():
        for place, (image, note) in enumerate(zip(data["images"], data["annotations"], strict=True)):
            moment = mini.joints[split]["0"][str(image["frame_idx"])]
            if all(flag == [1] for flag in note["joint_valid"]) and image["camera"] == "400026":
                return split, place, note, moment
    raise AssertionError("nobody shows both hands")


def pose_of(mini: Any, split: str, place: int) -> np.ndarray:
    rows, _ = scanned(Interhand(), mini.write())
    image = mini.data[split]["images"][place]
    pose = Interhand().labels(mini.root, rows[f"interhand/{split}_c0_400026_{image['frame_idx']}"]).pose
    assert pose is not None
    return pose


def test_a_joint_must_be_known_in_both_files(mini_interhand: Any) -> None:
    split, place, note, moment = both_hands(mini_interhand)
    note["joint_valid"][0] = [0]  # right thumb tip: keypoint 4 of the hand
    moment["joint_valid"][4] = [False]  # right index tip: keypoint 8
    moment["world_coord"][21 + 8] = [1.0, 1.0, 1.0]  # left middle tip, called valid: keypoint 12
    missing = np.flatnonzero(pose_of(mini_interhand, split, place)[HANDS, 2] == 0) + HANDS.start
    assert missing.tolist() == [LEFT_HAND.start + 12, RIGHT_HAND.start + 4, RIGHT_HAND.start + 8]


@pytest.mark.parametrize(("wrist", "lost"), [(20, RIGHT_HAND), (41, LEFT_HAND)])
def test_a_hand_without_its_wrist_is_no_hand(mini_interhand: Any, wrist: int, lost: slice) -> None:
    split, place, note, _ = both_hands(mini_interhand)
    note["joint_valid"][wrist] = [0]
    pose = pose_of(mini_interhand, split, place)
    assert not pose[lost].any()
    assert (pose[HANDS, 2] > 0).sum() == 21


def test_joints_outside_the_picture_or_behind_the_camera_are_not_labelled(mini_interhand: Any) -> None:
    split, place, _, moment = both_hands(mini_interhand)
    image = mini_interhand.data[split]["images"][place]
    truth = mini_interhand.poses[f"interhand/{split}_c0_400026_{image['frame_idx']}"][HANDS]
    image["width"] = width = int(np.median(truth[:, 0]))
    pose = pose_of(mini_interhand, split, place)[HANDS]
    assert np.array_equal(pose[:, 2] > 0, truth[:, 0] < width)
    assert not pose[pose[:, 2] == 0].any()
    image["width"] = 1
    with pytest.raises(DataError, match="no joint inside the picture"):
        pose_of(mini_interhand, split, place)
    points = np.array(moment["world_coord"])
    camera = Annotations(mini_interhand.root, split).cameras()["0", "400026"]
    behind = 2 * -camera.rotation.T @ camera.translation - points  # through the camera's centre
    assert np.isnan(camera.project(behind)).all()


def test_black_frames_and_resized_ones_are_objected_to(mini_interhand: Any) -> None:
    root = mini_interhand.write()
    source = Interhand()
    rows, _ = scanned(source, root)
    reasons = {}
    for key, row in rows.items():
        pose = source.labels(root, row).pose
        assert pose is not None
        reasons[key] = source.objection(row, load_image(root / row.image), pose)
        assert source.objection(row, np.full((192, 384, 3), 90, np.uint8), pose).startswith("image of another size: ")
    black = [key for key, reason in reasons.items() if reason]
    assert [key.split("_")[2] for key in black] == ["400027"]
    assert reasons[black[0]] == "black frame: brightness 0.0 around the hands, below 10"


def test_captions_of_sequences_and_words_about_gestures(mini_interhand: Any, tmp_path: Path) -> None:
    split = min(mini_interhand.data)
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({f"{split}/Capture0": "a man's\n hands"}))
    source = Interhand(InterhandOptions(sequence_captions=file))
    root = mini_interhand.write()
    rows, _ = scanned(source, root)
    labels = {row.split: source.labels(root, row) for row in rows.values()}
    assert {split: found.caption for split, found in labels.items()} == dict.fromkeys(labels) | {split: "a man's hands"}
    assert labels[split].attributes == {"gesture": "pray"}
    file.write_text(json.dumps({f"{split}/Capture0/0267_dh_pray": "nobody"}))
    with pytest.raises(ConfigError, match="0267_dh_pray' matches no sequence"):
        list(source.scan(root))
    unread = Interhand(InterhandOptions(sequence_captions=file, splits=max(mini_interhand.data)))
    assert list(unread.scan(root)), "names of splits that are not read are no mistake"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("0266_dh_pray", "pray"),
        ("0007_thumbup_normal", "thumbup_normal"),
        ("ROM07_RT_Finger_Occlusions", ""),
        ("0390_dh_touchROM", ""),
    ],
)
def test_words_about_gestures(name: str, words: str) -> None:
    assert gesture_words(name) == words


@pytest.mark.parametrize("kind", ["data", "camera", "joint_3d"])
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_bad_annotation_file_is_one_error_that_names_it(mini_interhand: Any, kind: str, damage: str) -> None:
    path = mini_interhand.write() / f"annotations/test/InterHand2.6M_test_{kind}.json"
    content = path.read_text()
    path.unlink()
    if damage != "gone":
        other = {"images": [{}], "0": [1], "annotations": [{"id": 3}]}
        path.write_text(content[: len(content) // 2] if damage == "cut" else json.dumps(other))
    with pytest.raises(DataError, match=path.name) as caught:
        list(Interhand().scan(mini_interhand.root))
    assert "mks0601.github.io/InterHand2.6M" in caught.value.hint


def test_other_mistakes_are_named(mini_interhand: Any) -> None:
    root = mini_interhand.write()
    for options, message in (
        (InterhandOptions(splits="train,tset"), "there is no 'tset'"),
        (InterhandOptions(images="../images"), "must be a folder below root"),
    ):
        with pytest.raises(ConfigError, match=message):
            list(Interhand(options).scan(root))
    with pytest.raises(DataError, match="elsewhere/train does not exist") as caught:
        list(Interhand(InterhandOptions(images="elsewhere")).scan(root))
    assert "images=FOLDER" in caught.value.hint

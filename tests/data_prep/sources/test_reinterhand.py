from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.sources import Labels, Row
from data_prep.sources.reinterhand import Reinterhand, ReinterhandOptions
from data_prep.sources.reinterhand_masks import check_inside, mask_path
from h2d.data.schema import validate_key
from h2d.errors import ConfigError, DataError
from h2d.images import encode_png
from h2d.skeleton import HAND_SLICES, HANDS, LEFT_HAND, RIGHT_HAND

BOTH = ReinterhandOptions(), ReinterhandOptions(joints="keypoints_orig")


def scanned(source: Reinterhand, root: Path) -> tuple[dict[str, Row], dict[str, str]]:
    """The rows by key, and the reasons of the others by key."""
    entries = list(source.scan(root))
    rejected = {entry[0].key: entry[1] for entry in entries if isinstance(entry, tuple)}
    return {entry.key: entry for entry in entries if isinstance(entry, Row)}, rejected


def labelled(source: Reinterhand, root: Path) -> dict[str, Labels | str]:
    """The labels by key, or why there are none."""
    found: dict[str, Labels | str] = {}
    for key, row in scanned(source, root)[0].items():
        try:
            found[key] = source.labels(root, row)
        except DataError as error:
            found[key] = error.message
    return found


def only(mini: Any) -> tuple[str, Path]:
    """Key and mask of the first person whose hands are both wholly in the picture, and whose mask is accepted."""
    labels = labelled(Reinterhand(), mini.root)
    key = next(
        key for key, pose in mini.poses.items() if (pose[HANDS, 2] > 0).all() and not isinstance(labels[key], str)
    )
    (image,) = mini.root.glob(f"*/Mugsy_cameras/envmap_per_frame/masks/*/{key.split('_')[-1]}.png")
    return key, image


def test_rows_say_what_the_folders_say(mini_reinterhand: Any) -> None:
    rows, rejected = scanned(Reinterhand(), mini_reinterhand.root)
    assert rejected == {}
    assert rows.keys() == mini_reinterhand.poses.keys()
    assert all(validate_key(key) for key in rows)
    row = rows["reinterhand/20220628-1327-BKS383_400262_000098"]
    assert (row.split, row.subject, row.gesture) == ("", "BKS383", "")
    assert row.image.endswith("--two-hands/Mugsy_cameras/envmap_per_frame/images/400262/000098.png")
    assert {(row.split, row.subject) for row in rows.values()} == {("", "BKS383"), ("test", "RNS217")}


@pytest.mark.parametrize("options", BOTH, ids=lambda options: options.joints)
def test_poses_are_those_from_which_the_joints_were_made(mini_reinterhand: Any, options: ReinterhandOptions) -> None:
    seen = 0
    for key, found in labelled(Reinterhand(replace(options, mask_coding="none")), mini_reinterhand.root).items():
        truth = mini_reinterhand.poses[key]
        assert isinstance(found, Labels)
        assert found.pose is not None
        assert np.array_equal(found.pose[HANDS, 2] > 0, truth[HANDS, 2] > 0), key
        assert np.abs(found.pose[HANDS, :2] - truth[HANDS, :2])[truth[HANDS, 2] > 0].max() < 0.001
        assert not found.pose[: HANDS.start].any()
        seen += int((found.pose[HANDS, 2] > 0).sum())
    assert seen > 200


def test_a_mask_of_both_hands_is_shared_out_by_the_bones(mini_reinterhand: Any) -> None:
    labels = labelled(Reinterhand(), mini_reinterhand.root)
    accepted = {key: found for key, found in labels.items() if isinstance(found, Labels)}
    refused = [found for found in labels.values() if isinstance(found, str)]
    assert len(accepted) >= 6
    assert all(reason.startswith("mask misses the joints: 0.") for reason in refused)
    for key, found in accepted.items():
        truth, hands = mini_reinterhand.hands[key], found.hands
        assert hands is not None
        assert np.array_equal(hands > 0, truth > 0)
        assert (hands == truth)[truth > 0].mean() > 0.97, key


def test_a_mask_with_a_value_for_each_hand(mini_reinterhand: Any) -> None:
    key, mask = only(mini_reinterhand)
    truth = mini_reinterhand.hands[key]
    mask.write_bytes(encode_png(np.array([0, 90, 40], np.uint8)[truth]))
    found = labelled(
        Reinterhand(ReinterhandOptions(mask_coding="labels", mask_right=90, mask_left=40)), mini_reinterhand.root
    )[key]
    assert isinstance(found, Labels)
    assert np.array_equal(found.hands, truth)
    mask.write_bytes(encode_png((truth > 0).astype(np.uint8)))
    assert str(labelled(Reinterhand(), mini_reinterhand.root)[key]) == "mask misses the joints: 0.00 inside"
    assert isinstance(labelled(Reinterhand(ReinterhandOptions(mask_threshold=0)), mini_reinterhand.root)[key], Labels)
    mask.write_bytes(b"")
    assert labelled(Reinterhand(), mini_reinterhand.root)[key] == "mask cannot be read: the file is empty"


def test_nine_of_ten_joints_must_lie_in_the_mask() -> None:
    pose = np.zeros((133, 3), np.float32)
    pose[RIGHT_HAND][:20] = [(place + 0.5, 3.5, 2) for place in range(20)]
    hands = np.zeros((8, 20), np.uint8)
    hands[3, 2:] = 1
    check_inside(hands, pose)
    hands[3, 2] = 0
    with pytest.raises(DataError, match=r"mask misses the joints: 0\.85 inside"):
        check_inside(hands, pose)


@pytest.mark.parametrize("options", BOTH, ids=lambda options: options.joints)
def test_a_hand_of_zeros_is_missing(mini_reinterhand: Any, options: ReinterhandOptions) -> None:
    key, mask = only(mini_reinterhand)
    capture, frame = mask.parents[4], int(mask.stem)
    source = Reinterhand(replace(options, mask_coding="none"))
    fits = [capture / f"orig_fits/{side}/Keypoints/keypoint-{frame:06d}.json" for side in ("left", "right")]
    both = capture / f"keypoints_orig/keypoints_orig/{frame}.json"
    joints = json.loads(both.read_bytes())
    fits[0].write_text(json.dumps([[0.0] * 3] * 24))
    both.write_text(json.dumps(joints[:21] + [[0.0] * 3] * 21))
    found = labelled(source, mini_reinterhand.root)[key]
    assert isinstance(found, Labels)
    assert found.pose is not None
    assert not found.pose[LEFT_HAND].any()
    assert (found.pose[RIGHT_HAND, 2] == 2).all()
    fits[1].write_text(json.dumps([[0.0] * 3] * 24))
    both.write_text(json.dumps([[0.0] * 3] * 42))
    assert labelled(source, mini_reinterhand.root)[key] == "no hand in the joints of the frame"
    for path in (*fits, both):
        path.write_text(json.dumps(joints[:20]))
    assert str(labelled(source, mini_reinterhand.root)[key]).startswith("joints damaged: ")


def test_images_that_stay_out_come_with_their_reason(mini_reinterhand: Any) -> None:
    key, mask = only(mini_reinterhand)
    images = mask.parents[2] / "images"
    for name in ("400262/preview.png", "400999/000098.png", "400262/900000.png"):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).touch()
    mask.unlink()
    _, rejected = scanned(Reinterhand(), mini_reinterhand.root)
    start = key.split("_")[0]
    assert rejected == {
        key: "no mask file",
        f"{start}_400262_preview": "name is no number of a frame",
        f"{start}_400999_000098": "no parameters of the camera: 400999",
        f"{start}_400262_900000": "no joints of the frame",
    }
    for side in HAND_SLICES:
        (mask.parents[4] / f"orig_fits/{side}/Keypoints/keypoint-900000.json").touch()
        _, rejected = scanned(Reinterhand(ReinterhandOptions(mask_coding="none")), mini_reinterhand.root)
        assert (f"{start}_400262_900000" in rejected) == (side == "right"), "joints of both hands are wanted"


def test_missing_pieces_are_one_error_that_names_them(mini_reinterhand: Any, tmp_path: Path) -> None:
    for piece, hint in (
        ("Mugsy_cameras/cam_params.json", ""),
        ("orig_fits/left/Keypoints", "joints=keypoints_orig"),
        ("Mugsy_cameras/envmap_per_frame/images", "envmap="),
        ("Mugsy_cameras/envmap_per_frame/masks", "mask_path="),
    ):
        copy = tmp_path / "copy" / piece.replace("/", "-")
        shutil.copytree(mini_reinterhand.root, copy)
        path = min(copy.iterdir()) / piece
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(DataError, match=piece) as caught:
            list(Reinterhand().scan(copy))
        assert hint in caught.value.hint
        assert "facebookresearch/InterWild" in caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no capture"):
        list(Reinterhand().scan(tmp_path / "empty"))


def test_places_of_masks() -> None:
    assert (
        mask_path("m/{envmap}/{camera}/{frame}.png", "envmap_per_frame", "400262", 98)
        == "m/envmap_per_frame/400262/98.png"
    )
    for template in ("{frame.__class__}", "{0}", "{capture}", "{frame:x", "{frame:06q}"):
        with pytest.raises(ConfigError, match="mask_path="):
            mask_path(template, "envmap_per_frame", "400262", 98)


def test_captions_of_captures(mini_reinterhand: Any, tmp_path: Path) -> None:
    capture = min(path.name for path in mini_reinterhand.root.iterdir())
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({capture: "dark hands"}))
    source = Reinterhand(ReinterhandOptions(sequence_captions=file, mask_coding="none"))
    captions = {
        key.split("-")[2][:6]: found.caption
        for key, found in labelled(source, mini_reinterhand.root).items()
        if isinstance(found, Labels)
    }
    assert captions == {"BKS383": "dark hands", "RNS217": None}
    file.write_text(json.dumps({capture[:-1]: "dark hands"}))
    with pytest.raises(ConfigError, match="matches no sequence"):
        list(source.scan(mini_reinterhand.root))

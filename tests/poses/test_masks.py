from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.synthetic import render_person
from h2d.annotators.hand_masks import Segmentation
from h2d.errors import DataError, SetupError
from h2d.images import encode_png
from h2d.poses import masks
from h2d.poses.masks import find_hands, read_hand_mask
from h2d.poses.scene import Scene
from h2d.skeleton import HAND_LABELS

Build = Callable[..., np.ndarray]
Scenes = Callable[..., Scene]


@pytest.fixture
def two_hands(pose: Build, scene: Scenes) -> Scene:
    """A right hand around x = 40 and a left one around x = 140, of 200."""
    return scene(200, 100, pose(right=(40, 80, 40), left=(140, 80, 40)))


def _save(path: Path, mask: np.ndarray) -> Path:
    path.write_bytes(encode_png(mask.astype(np.uint8)))
    return path


# --- masks that are found ---------------------------------------------------------------------------------------------
def test_exact_masks_are_the_answer(pose: Build, scene: Scenes) -> None:
    hands = np.ones((50, 60), np.uint8)
    assert find_hands(scene(60, 50, pose(right=(20, 40, 20)), hands=hands)) is hands


def test_the_hands_of_several_people_are_found(scene: Scenes) -> None:
    """Two rendered people side by side, whose exact masks are known."""
    people = [render_person(0, index, 320, supersampling=1) for index in (0, 1)]
    poses = np.stack([person.pose for person in people])
    poses[1, :, 0] += 320
    image, exact = (np.concatenate([getattr(person, name) for person in people], axis=1) for name in ("image", "hands"))
    found = find_hands(scene(640, 320, *poses, image=image))
    assert found.dtype == np.uint8
    for half in (slice(0, 320), slice(320, 640)):
        for label in set(np.unique(exact[:, half])) - {0}:
            one, other = found[:, half] == label, exact[:, half] == label
            assert (one & other).sum() / (one | other).sum() > 0.6


def test_a_pixel_that_two_hands_claim_goes_to_the_nearer(
    pose: Build, scene: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Greedy:
        def segment(self, image: np.ndarray, pose: np.ndarray) -> Segmentation:
            (label,) = (HAND_LABELS[side] for side in masks.present_hands(pose))
            hands = np.zeros(image.shape[:2], np.uint8)
            hands[:, 20:180] = label
            return Segmentation(hands, None, {})

    monkeypatch.setattr(masks, "GrabCutSegmenter", Greedy)
    found = find_hands(scene(200, 100, pose(right=(40, 80, 40)), pose(left=(160, 80, 40))))
    assert (found[:, 20:100] == 1).all()
    assert (found[:, 101:180] == 2).all()
    assert not found[:, :20].any()
    again = find_hands(scene(200, 100, pose(right=(40, 80, 40)), pose(right=(160, 80, 40)), pose()))
    assert set(np.unique(again)) == {0, 1}


def test_nobody_with_a_hand_gives_an_empty_mask(pose: Build, scene: Scenes) -> None:
    outside = pose(right=(500, 40, 20))
    assert not find_hands(scene(60, 50, pose(body=[(0, 5, 5)]), outside)).any()


def test_masks_that_cannot_be_trusted_are_named(pose: Build, scene: Scenes) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    tiny, right = pose(left=(100, 50, 1)), pose(right=(40, 80, 40))
    with pytest.raises(DataError, match=r"^a picture: hand mask .*: left hand") as caught:
        find_hands(scene(200, 100, tiny, image=noise))
    assert caught.value.hint == "give a mask with --hand-mask"
    with pytest.raises(DataError, match=r"^a picture, person 2: hand mask .*: left hand"):
        find_hands(scene(200, 100, right, tiny, image=np.full((100, 200, 3), 90, np.uint8)))


def test_a_pose_without_a_picture_has_no_hands_to_find(pose: Build, scene: Scenes) -> None:
    with pytest.raises(DataError, match="a picture has no picture in which hands could be found"):
        find_hands(scene(60, 50, pose(right=(20, 40, 20)), has_picture=False))


def test_a_checkpoint_of_sam_that_cannot_be_used(two_hands: Scene, tmp_path: Path) -> None:
    (tmp_path / "sam.pth").write_bytes(b"no weights")
    for name in ("sam.pth", "sam_vit_h.pth"):
        with pytest.raises(SetupError, match=name) as caught:
            find_hands(two_hands, tmp_path / name)
        assert "sam_vit_h_4b8939.pth" in caught.value.hint


# --- masks that are given ---------------------------------------------------------------------------------------------
def test_labels_are_taken_as_they_are(two_hands: Scene, tmp_path: Path) -> None:
    mask = np.zeros((100, 200), np.uint8)
    mask[:, :30], mask[50:, 170:] = 2, 1
    assert np.array_equal(read_hand_mask(_save(tmp_path / "m.png", mask), two_hands), mask)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P"])
def test_white_belongs_to_the_nearest_hand(mode: str, two_hands: Scene, tmp_path: Path) -> None:
    mask = np.zeros((100, 200), np.uint8)
    mask[40:90] = 255
    Image.fromarray(mask).convert(mode).save(tmp_path / "m.png")
    found = read_hand_mask(tmp_path / "m.png", two_hands)
    assert (found[40:90, :89] == 1).all()
    assert (found[40:90, 91:] == 2).all(), "the middle between the hands"
    assert not found[:40].any()
    assert not found[90:].any()


def test_white_is_shared_out_among_several_people(pose: Build, scene: Scenes, tmp_path: Path) -> None:
    people = scene(200, 100, pose(left=(40, 80, 20)), pose(right=(100, 80, 20)), pose(left=(160, 80, 20)))
    mask = np.zeros((100, 200))
    mask[70] = 255
    row = read_hand_mask(_save(tmp_path / "m.png", mask), people)[70]
    assert [row[x] for x in (5, 60, 80, 120, 140, 195)] == [2, 2, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.eye(100, 200) * 128, "holds the values 0, 128"),
        (np.arange(20000).reshape(100, 200) % 256, "holds the values 0, 1, 2, 3, 4, 5, ..."),
        (np.eye(100, 200) * 3, "holds the values 0, 3"),
        (np.eye(100, 200) + np.eye(100, 200, 9) * 255, "holds the values 0, 1, 255"),
        (np.zeros((100, 200)), "marks no pixel"),
        (np.full((100, 200), 255), "marks every pixel"),
        (np.eye(100, 100), "is 100 x 100 pixels, a picture is 200 x 100"),
    ],
)
def test_wrong_masks_are_named(mask: np.ndarray, message: str, two_hands: Scene, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_hand_mask(_save(tmp_path / "m.png", mask), two_hands)
    assert message in caught.value.message
    assert "m.png" in caught.value.message
    assert caught.value.hint


def test_colours_are_no_labels(two_hands: Scene, tmp_path: Path) -> None:
    mask = np.zeros((100, 200, 3))
    mask[:50, :, 0] = 255
    with pytest.raises(DataError, match=r"m\.png is coloured"):
        read_hand_mask(_save(tmp_path / "m.png", mask), two_hands)


def test_hands_that_nobody_has_are_named(pose: Build, scene: Scenes, tmp_path: Path) -> None:
    left = scene(60, 50, pose(left=(20, 40, 20)))
    with pytest.raises(DataError, match=r"marks a right hand \(1\), but a picture shows no right hand"):
        read_hand_mask(_save(tmp_path / "m.png", np.eye(50, 60)), left)
    nobody = scene(60, 50, pose(body=[(0, 5, 5)]))
    with pytest.raises(DataError, match="a picture has no hand to which its white could belong"):
        read_hand_mask(_save(tmp_path / "m.png", np.eye(50, 60) * 255), nobody)


def test_what_is_no_picture_is_named(two_hands: Scene, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"mask")
    for name in ("m.png", "none.png"):
        with pytest.raises(DataError, match=name):
            read_hand_mask(tmp_path / name, two_hands)

"""Depth maps of hands: from files, from a program, and from landmarks."""

from __future__ import annotations

import gc
import multiprocessing
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.synthetic import render_person
from h2d.baselines.depth_capsules import CapsuleDepth, hand_maps
from h2d.baselines.depth_files import CommandDepth, FolderDepth
from h2d.baselines.hand_depth import box_mask
from h2d.errors import DataError, SetupError

SIZE = 128


# --- boxes -----------------------------------------------------------------------------------------------------------
def test_a_box_grows_by_thirty_pixels_or_fifteen_percent():
    small = box_mask([(200, 200, 260, 300)], 512)  # 30 px: 15 % of 60 and of 100 are less
    assert (np.flatnonzero(small.any(axis=0))[[0, -1]] == (170, 289)).all()
    assert (np.flatnonzero(small.any(axis=1))[[0, -1]] == (170, 329)).all()
    large = box_mask([(100, 100, 400, 300)], 512)  # 15 % of 300 across
    assert (np.flatnonzero(large.any(axis=0))[[0, -1]] == (55, 444)).all()
    assert (np.flatnonzero(large.any(axis=1))[[0, -1]] == (70, 329)).all()


def test_boxes_unite_scale_with_the_image_and_end_at_its_frame():
    both = box_mask([(10, 10, 20, 20), (200, 200, 240, 240)], 256)  # 15 px at 256
    assert both.sum() == 35 * 35 + 70 * 70
    assert not box_mask([], 64).any()


# --- landmarks -------------------------------------------------------------------------------------------------------
def flat_hand(x: float, y: float, length: float) -> np.ndarray:
    """A hand with spread fingers in a plane; ``length`` from the wrist to the middle knuckle."""
    hand = np.zeros((21, 3))
    hand[0, :2] = x, y
    for finger, angle in enumerate(np.radians((-60, -20, 0, 18, 36))):
        for joint, far in enumerate((1.0, 1.4, 1.7, 1.95)):
            hand[1 + 4 * finger + joint, :2] = (
                x + far * length * np.sin(angle),
                y - far * length * np.cos(angle),
            )
    return hand


def test_a_bone_is_a_capsule_with_its_ridge_nearest():
    maps = hand_maps([flat_hand(64, 100, 30)], SIZE)
    middle = maps.depth[45]  # a row across the middle finger, where it stands alone at x = 64
    across = np.flatnonzero(middle[58:71]) + 58
    assert 2 * 0.09 * 30 - 1 <= len(across) <= 2 * 0.09 * 30 + 1
    assert middle[across].argmax() in (len(across) // 2 - 1, len(across) // 2)
    assert maps.depth[120].max() == 0


def test_depth_runs_from_255_to_51_and_the_nearer_end_is_brighter():
    hand = flat_hand(64, 110, 30)
    hand[:, 2] = (hand[:, 1] - 110) * 0.8  # finger tips towards the camera
    depth = hand_maps([hand], SIZE).depth
    assert depth.max() == 255
    assert depth[depth > 0].min() == 51
    assert depth[55, 64] > depth[80, 64] > depth[105, 64] > 0


def test_a_bone_in_front_covers_one_behind():
    hand = flat_hand(64, 110, 30)
    hand[5:9, :2] = [(64, 80), (74, 65), (60, 55), (54, 65)]  # the index finger crosses the middle one
    hand[5:9, 2] = -40
    in_front = hand_maps([hand], SIZE).depth
    hand[5:9, 2] = 40
    behind = hand_maps([hand], SIZE).depth
    assert in_front[58, 64] > behind[58, 64]


def test_the_larger_hand_covers_the_smaller():
    small, large = flat_hand(64, 100, 20), flat_hand(64, 110, 30)
    both = hand_maps([large, small], SIZE).depth
    alone = hand_maps([large], SIZE).depth
    np.testing.assert_array_equal(both[alone > 0], alone[alone > 0])
    assert (both > 0).sum() >= (alone > 0).sum()


def test_the_mask_holds_the_hand_and_its_landmarks():
    hand = flat_hand(64, 100, 30)
    maps = hand_maps([hand], SIZE)
    assert maps.mask[maps.depth > 0].all()
    assert maps.mask[hand[:, 1].astype(int), hand[:, 0].astype(int)].all()
    assert not maps.mask.all()


@pytest.mark.parametrize("shift", [-500, 500])
def test_a_hand_outside_the_frame_is_none(shift):
    assert hand_maps([flat_hand(64 + shift, 100, 30)], SIZE) is None
    assert hand_maps([], SIZE) is None


def test_a_hand_at_the_edge_is_cut():
    maps = hand_maps([flat_hand(0, 100, 30)], SIZE)
    assert maps.depth[70, 0] > 0
    assert maps.mask[70, 0]


def test_images_keep_their_order():
    depth = CapsuleDepth(lambda images: [[flat_hand(64, 100, 30)] if image.any() else [] for image in images])
    nothing, hand = depth([np.zeros((SIZE, SIZE, 3), np.uint8), np.ones((SIZE, SIZE, 3), np.uint8)])
    assert nothing is None
    assert hand is not None
    assert "not HandRefiner's mesh" in depth.label


# --- MediaPipe -------------------------------------------------------------------------------------------------------
def test_mediapipe_sees_the_hands_of_a_person_in_a_process_that_ends_with_it():
    before = set(multiprocessing.active_children())
    person = render_person(0, 18, 256, supersampling=1)  # shows both hands
    depth = CapsuleDepth()
    assert set(multiprocessing.active_children()) <= before
    nothing, maps = depth([np.zeros((SIZE, SIZE, 3), np.uint8), person.image])
    assert nothing is None
    drawn, true = maps.depth > 0, person.hands > 0
    assert (drawn & true).sum() / (drawn | true).sum() > 0.6
    assert maps.mask[true].mean() > 0.95

    depth.close()
    assert set(multiprocessing.active_children()) <= before
    np.testing.assert_array_equal(depth([person.image])[0].depth, maps.depth)
    (process,) = set(multiprocessing.active_children()) - before
    del depth
    gc.collect()
    until = time.monotonic() + 30
    while process in multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.1)
    assert set(multiprocessing.active_children()) <= before


# --- files -----------------------------------------------------------------------------------------------------------
def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def write(folder: Path, name: str, image: np.ndarray, hand: bool = True) -> None:
    Image.fromarray(image).save(folder / f"{name}.png")
    if hand:
        depth = np.zeros((SIZE, SIZE), np.uint8)
        depth[10:20, 10:20] = image[0, 0, 0] // 2 + 100
        Image.fromarray(depth).save(folder / f"{name}_depth.png")
        Image.fromarray(((depth > 0) * 255).astype(np.uint8)).save(folder / f"{name}_mask.png")


def test_a_folder_is_searched_by_pixels(tmp_path):
    images = [picture(seed) for seed in range(3)]
    for name, image in zip(("c", "a", "b"), images, strict=True):
        write(tmp_path, name, image, hand=name != "a")
    found = FolderDepth(tmp_path)(images[::-1])
    assert found[1] is None
    for maps, image in ((found[0], images[2]), (found[2], images[0])):
        assert maps.depth[15, 15] == image[0, 0, 0] // 2 + 100
        assert maps.mask.sum() == 100


def test_an_image_that_is_not_in_the_folder_is_an_error(tmp_path):
    write(tmp_path, "a", picture(0))
    changed = picture(0)
    changed[5, 5, 0] ^= 1
    with pytest.raises(DataError, match=r"lacks an image .* \(1 others"):
        FolderDepth(tmp_path)([changed])


def test_maps_that_are_wrong_are_named(tmp_path):
    write(tmp_path, "a", picture(0))
    (tmp_path / "a_mask.png").unlink()
    with pytest.raises(DataError, match=r"a_depth\.png is alone"):
        FolderDepth(tmp_path)([picture(0)])
    Image.new("L", (64, 32)).save(tmp_path / "a_mask.png")
    with pytest.raises(DataError, match=r"a_mask\.png has 64 x 32 pixels, needed 128 x 128"):
        FolderDepth(tmp_path)([picture(0)])
    (tmp_path / "a_mask.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a_mask\.png cannot be read"):
        FolderDepth(tmp_path)([picture(0)])


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
for path in sorted(Path(sys.argv[-1]).glob("*.png")):
    image = np.asarray(Image.open(path))
    if image[0, 0, 0] > 100:
        grey = np.full(image.shape[:2], image[0, 0, 0], np.uint8)
        Image.fromarray(grey).save(path.with_name(path.stem + "_depth.png"))
        Image.fromarray(grey).save(path.with_name(path.stem + "_mask.png"))
"""


def test_a_program_makes_the_maps_of_a_batch(tmp_path):
    script = tmp_path / "with a space.py"
    script.write_text(PROGRAM)
    images = [np.full((SIZE, SIZE, 3), value, np.uint8) for value in (20, 180, 220)]
    found = CommandDepth(f"{sys.executable} {shlex.quote(str(script))}")(images)
    assert found[0] is None
    assert [maps.depth[0, 0] for maps in found[1:]] == [180, 220]
    assert found[1].mask.all()


def test_a_program_that_fails_is_named():
    with pytest.raises(SetupError, match=r"ended with 3: no MANO"):
        CommandDepth(f"{sys.executable} -c \"import sys; print('no MANO', file=sys.stderr); sys.exit(3)\"")(
            [picture(0)]
        )
    with pytest.raises(SetupError, match="cannot run `no-such-program`"):
        CommandDepth("no-such-program")([picture(0)])

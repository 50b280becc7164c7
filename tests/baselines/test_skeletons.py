import colorsys

import numpy as np
import pytest

from h2d.baselines.skeletons import draw_humansd, draw_openpose_v10
from h2d.rendering import draw_openpose
from h2d.skeleton import BODY, BODY_NAMES, HUMANSD_BONES, HUMANSD_RGB, RIGHT_HAND


def standing(**points: tuple[float, float]) -> np.ndarray:
    pose = np.zeros((133, 3), np.float32)
    for name, (x, y) in points.items():
        pose[BODY_NAMES.index(name)] = x, y, 2
    return pose


def test_limbs_of_the_old_openpose_lie_half_transparent_over_the_joints():
    canvas = draw_openpose_v10(standing(left_shoulder=(400, 200), right_shoulder=(100, 200)), 512, hands=False)
    # Limb neck - right shoulder is 0.6 of (255, 0, 0) on black; the disc of the shoulder is (255, 170, 0) below it.
    assert tuple(canvas[200, 180]) == (153, 0, 0)
    assert tuple(canvas[200, 320]) == (153, 51, 0)  # neck - left shoulder: 0.6 of (255, 85, 0)
    assert tuple(canvas[200, 102]) == (255, 68, 0)  # 0.4 x (255, 170, 0) + 0.6 x (255, 0, 0)
    assert tuple(canvas[200, 97]) == (255, 170, 0)  # the part of the disc that no limb covers
    assert canvas[206:].max() == canvas[:194].max() == 0


def test_overlapping_limbs_mix():
    canvas = draw_openpose_v10(
        standing(left_shoulder=(400, 200), right_shoulder=(100, 200), nose=(250, 100)), 512, False
    )
    # The neck (255, 85, 0) under three limbs in their order: (255, 0, 0), (255, 85, 0) and at the end (0, 0, 255).
    colour = np.array((255, 85, 0))
    for limb in ((255, 0, 0), (255, 85, 0), (0, 0, 255)):
        colour = np.round(0.4 * colour + 0.6 * np.array(limb))
    assert np.abs(canvas[200, 250] - colour).max() <= 1


def test_missing_joints_leave_out_their_limbs_and_the_neck():
    canvas = draw_openpose_v10(standing(right_shoulder=(100, 200), right_elbow=(100, 300)), 512, hands=False)
    assert tuple(canvas[250, 100]) == (153, 102, 0)  # shoulder - elbow: 0.6 of (255, 170, 0)
    assert {tuple(colour) for colour in canvas[:190].reshape(-1, 3)} == {(0, 0, 0)}


def test_hands_are_those_of_the_new_version_and_only_when_asked_for():
    pose = standing(right_elbow=(50, 256), right_wrist=(110, 256))
    pose[RIGHT_HAND, 0] = np.repeat([100, 300, 320, 340, 360], [1, 5, 5, 5, 5])
    pose[RIGHT_HAND, 1] = 256
    pose[RIGHT_HAND, 2] = 2
    with_hands, without = (draw_openpose_v10(pose, 512, hands=hands) for hands in (True, False))
    new = draw_openpose(pose, 512)
    np.testing.assert_array_equal(with_hands[:, 120:], new[:, 120:])
    assert tuple(with_hands[256, 300]) == (0, 0, 255)
    assert without[:, 120:].max() == 0


def test_faces_and_feet_are_never_drawn():
    pose = np.full((133, 3), 256, np.float32)
    pose[:, 2] = 2
    pose[BODY, 2] = pose[91:, 2] = 0
    assert draw_openpose_v10(pose, 512, hands=True).max() == 0
    assert draw_humansd(pose, 512).max() == 0


def test_the_palette_of_humansd_is_seaborns():
    hues = (np.arange(16) / 16 + 0.01) % 1
    colours = [[255 * value for value in colorsys.hls_to_rgb(hue, 0.6, 0.65)] for hue in hues]
    assert np.abs(np.array(HUMANSD_RGB) - np.array(colours)).max() <= 1
    assert len(set(HUMANSD_BONES)) == 16
    assert {end for bone in HUMANSD_BONES for end in bone} == set(range(17))


def test_bones_of_humansd_are_ten_pixels_wide_and_later_ones_lie_above():
    canvas = draw_humansd(standing(left_shoulder=(100, 200), left_elbow=(300, 200), left_wrist=(300, 400)), 512)
    assert tuple(canvas[200, 200]) == (86, 219, 127)  # shoulder - elbow
    assert tuple(canvas[200, 300]) == tuple(canvas[300, 300]) == (86, 211, 219)  # elbow - wrist, over the other
    assert 10 <= (canvas[:, 200].max(axis=1) > 0).sum() <= 12
    assert canvas[:, :94].max() == 0  # a disc of radius 5


@pytest.mark.parametrize("outside", [(600, 200), (-3, 200), (300, 512)])
def test_humansd_leaves_out_bones_with_an_end_outside(outside):
    assert draw_humansd(standing(left_shoulder=(100, 200), left_elbow=outside), 512).max() == 0


def test_smaller_images_show_the_large_drawing_shrunk():
    large = standing(left_shoulder=(400, 200), right_shoulder=(100, 200), left_elbow=(400, 400))
    small = large.copy()
    small[:, :2] /= 8
    for draw in (draw_humansd, lambda pose, size: draw_openpose_v10(pose, size, hands=True)):
        means = draw(large, 512).reshape(64, 8, 64, 8, 3).mean((1, 3))
        assert np.abs(means - draw(small, 64)).max() <= 1

import numpy as np
import pytest
import torch

from h2d.masks import shrink_maps
from h2d.rendering import draw_openpose, finger_heatmaps, overlay, small_heatmaps
from h2d.skeleton import FINGERS, LEFT_HAND, RIGHT_HAND


def one_point(index: int, x: float, y: float) -> np.ndarray:
    pose = np.zeros((133, 3), np.float32)
    pose[index] = x, y, 2
    return pose


def test_a_finger_tip_peaks_at_its_pixel_in_its_channel_only():
    index_tip = RIGHT_HAND.start + 8
    maps = finger_heatmaps(one_point(index_tip, 20.5, 40.5), 64, 3.0)
    assert maps.shape == (10, 64, 64)
    assert np.unravel_index(maps[1].argmax(), (64, 64)) == (40, 20)
    assert maps[1, 40, 20] == pytest.approx(1.0)
    assert maps[1, 40, 23] == pytest.approx(np.exp(-0.5), abs=1e-6)  # one sigma to the right
    assert maps[[0, 2, 3, 4, 5, 6, 7, 8, 9]].max() == 0


@pytest.mark.parametrize(("wrist", "channels"), [("all", 5), ("thumb", 1), ("none", 0)])
def test_the_wrist_goes_into_the_channels_asked_for(wrist, channels):
    maps = finger_heatmaps(one_point(LEFT_HAND.start, 32, 32), 64, 3.0, wrist)
    assert (maps.max((1, 2)) > 0.9).sum() == channels
    assert maps[:5].max() == 0  # the left hand owns channels 5..9


def test_missing_points_are_not_drawn_and_points_outside_leave_only_their_tail():
    pose = one_point(RIGHT_HAND.start + 4, 10, 10)
    pose[RIGHT_HAND.start + 4, 2] = 0
    assert finger_heatmaps(pose, 32, 2.0).max() == 0
    outside = finger_heatmaps(one_point(RIGHT_HAND.start + 4, -3, 16), 32, 2.0)
    assert 0 < outside[0].max() < 0.3


def test_points_of_one_finger_are_combined_by_maximum():
    pose = np.zeros((133, 3), np.float32)
    pose[RIGHT_HAND][:] = 16.5, 16.5, 2
    assert finger_heatmaps(pose, 32, 2.0).max() == pytest.approx(1.0)


def test_openpose_colours_and_positions():
    pose = np.zeros((133, 3), np.float32)
    pose[5], pose[6] = (400, 200, 2), (100, 200, 2)  # shoulders: the neck is their middle
    canvas = draw_openpose(pose, 512)
    assert tuple(canvas[200, 100]) == (255, 170, 0)  # right shoulder disc
    assert tuple(canvas[200, 400]) == (85, 255, 0)  # left shoulder disc
    assert tuple(canvas[200, 250]) == (255, 85, 0)  # neck disc
    assert tuple(canvas[200, 180]) == (153, 0, 0)  # limb neck - right shoulder at 0.6 brightness
    assert canvas[150].max() == 0


def test_hand_points_are_blue_discs_on_coloured_bones():
    pose = np.zeros((133, 3), np.float32)
    thumb = LEFT_HAND.start + FINGERS[0]
    pose[thumb, 0], pose[thumb, 1], pose[thumb, 2] = np.linspace(100, 300, 5), 256, 2
    canvas = draw_openpose(pose, 512)
    assert tuple(canvas[256, 100]) == (0, 0, 255)
    assert tuple(canvas[256, 125]) == (255, 0, 0)  # first bone of the thumb
    assert tuple(canvas[256, 175]) == (255, 77, 0)


def test_small_canvases_are_the_large_drawing_shrunk():
    pose = np.zeros((133, 3), np.float32)
    pose[5], pose[6] = (400, 200, 2), (100, 200, 2)
    small = pose.copy()
    small[:, :2] /= 4
    large, shrunk = draw_openpose(pose, 512), draw_openpose(small, 128)
    assert shrunk.shape == (128, 128, 3)
    means = large.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(means - shrunk).max() <= 1


def test_drawing_needs_no_point_inside_the_frame():
    pose = np.full((133, 3), 2.0, np.float32)
    pose[:, :2] = -1000
    assert draw_openpose(pose, 512).max() == 0
    pose[:, :2] = 1e6
    assert draw_openpose(pose, 512).max() == 0


def test_overlay_tints_masks_and_leaves_its_input_alone():
    image = np.full((100, 120, 3), 100, np.uint8)
    hands = np.zeros((100, 120), np.uint8)
    hands[10:20, 10:20], hands[50:60, 50:60] = 1, 2
    result = overlay(image, np.zeros((133, 3), np.float32), hands)
    assert (image == 100).all()
    assert result[15, 15, 0] > 150 > result[15, 15, 2]
    assert result[55, 55, 2] > 150 > result[55, 55, 0]
    assert (result[80, 80] == 100).all()


def test_overlay_draws_everybody():
    image, people = np.zeros((100, 200, 3), np.uint8), np.zeros((2, 133, 3), np.float32)
    people[0, [5, 6]] = (20, 50, 2), (60, 50, 2)
    people[1, [5, 6]] = (120, 30, 2), (160, 30, 2)
    both = overlay(image, people)
    assert (both == np.maximum(overlay(image, people[0]), overlay(image, people[1]))).all()
    assert min(both[50, 40, 1], both[30, 140, 1]) > 180 > 100 > both[30, 40].max()
    assert (overlay(image, people[:1]) == overlay(image, people[0])).all()


@pytest.mark.parametrize(("size", "cells"), [(512, 64), (128, 32), (64, 8), (96, 32), (48, 16)])
def test_small_maps_are_the_shrunk_ones(size: int, cells: int) -> None:
    rng = np.random.default_rng(size)
    pose = np.zeros((133, 3), np.float32)
    for hand in (RIGHT_HAND, LEFT_HAND):
        pose[hand] = np.concatenate([rng.uniform(-10, size + 10, (21, 2)), rng.integers(0, 3, (21, 1))], axis=1)
    large = torch.from_numpy(finger_heatmaps(pose, size, size / 40))
    small = small_heatmaps(pose, size, cells, size / 40)
    np.testing.assert_allclose(small, shrink_maps(large[None], cells)[0].numpy(), atol=1e-6)
    assert small.max() > 0.5

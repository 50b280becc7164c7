import numpy as np
import pytest

from h2d.data.schema import Sample
from h2d.data.square import Window, choose_window, square_sample
from h2d.skeleton import RIGHT_HAND


def person(width, height, hand, body):
    """A sample whose right hand covers a box and whose body keypoints span another (x0, y0, x1, y1)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    hands, pose = np.zeros((height, width), np.uint8), np.zeros((133, 3), np.float32)
    x0, y0, x1, y1 = hand
    hands[y0:y1, x0:x1] = 1
    pose[RIGHT_HAND] = [*((x0 + x1) / 2, (y0 + y1) / 2), 2]
    pose[0], pose[16] = (*body[:2], 2), (*body[2:], 2)
    meta = {"size": [width, height], "hand_boxes": {}}
    return Sample("s/0", image, hands, pose, "caption", meta, person=(hands > 0).astype(np.uint8) * 255)


def test_a_square_image_is_only_resized():
    square = square_sample(person(100, 100, (20, 30, 40, 50), (10, 10, 90, 90)), 200)
    assert square.image.shape == (200, 200, 3)
    assert square.pose[0].tolist() == [20, 20, 2]
    assert np.argwhere(square.hands).min(axis=0).tolist() == [60, 40]
    assert np.argwhere(square.hands).max(axis=0).tolist() == [99, 79]
    assert (square.person > 0).tolist() == (square.hands > 0).tolist()
    assert square.meta["size"] == [200, 200]
    assert square.meta["hand_boxes"] == {"right": [60.0, 80.0, 60.0, 80.0]}


@pytest.mark.parametrize("hand", [(30, 5, 60, 35), (30, 80, 60, 110), (30, 165, 60, 195)])
def test_the_window_follows_the_hands(hand):
    sample = person(100, 200, hand, (20, 10, 80, 190))
    square = square_sample(sample, 100)
    assert (square.hands > 0).sum() == 30 * 30
    y = square.pose[RIGHT_HAND, 1][0]
    assert 15 <= y <= 85
    assert square.pose[0, 2] == (2 if hand[1] < 80 else 0), "the head stays where the hands allow it"
    inside = square.pose[:, 2] > 0
    assert (square.pose[inside, :2] >= 0).all()
    assert (square.pose[inside, :2] < 100).all()


def test_pixels_and_keypoints_move_together():
    sample = person(300, 100, (200, 40, 220, 60), (180, 10, 240, 90))
    square = square_sample(sample, 50)
    x, y, _ = square.pose[RIGHT_HAND][0]
    assert square.hands[round(y), round(x)] == 1
    assert square.image[round(y), round(x)].astype(int) == pytest.approx([210 / 299 * 255, 50 / 99 * 255, 0], abs=4)


def test_hands_far_apart_make_the_window_leave_the_image():
    sample = person(100, 200, (40, 0, 60, 10), (20, 10, 80, 190))
    sample.hands[180:200, 40:60] = 2
    square = square_sample(sample, 100)
    assert set(np.unique(square.hands)) == {0, 1, 2}
    assert (square.image[:, 0] == square.image[:, 20]).all(), "the border is repeated"


def test_a_sample_without_hands_or_keypoints_is_cut_in_the_middle():
    sample = person(100, 200, (0, 0, 0, 0), (0, 0, 0, 0))
    sample.pose[:] = 0
    assert square_sample(sample, 64).image.shape == (64, 64, 3)


def test_the_largest_window_of_a_shape_is_taken():
    nothing = np.zeros((0, 2))
    assert choose_window(nothing, nothing, (300, 100), (50, 100)) == Window(125, 0, 50, 100, (50, 100))
    assert choose_window(nothing, nothing, (300, 100), (400, 200)) == Window(50, 0, 200, 100, (400, 200))
    assert choose_window(nothing, nothing, (90, 100), (64, 64)) == Window(0, 0, 90, 90, (64, 64))


def test_it_grows_for_hands_and_never_beyond_what_holds_the_image():
    hands = np.array([[10, 50], [247, 50]])
    assert choose_window(hands, hands, (300, 100), (60, 30)) == Window(9, -10, 239, 120, (60, 30))
    assert choose_window(hands * 9, hands, (300, 100), (60, 30)) == Window(0, -25, 300, 150, (60, 30))


def test_each_axis_has_its_own_scale():
    window = Window(10, 20, 30, 40, (60, 40))
    pose = np.array([[[10, 20, 2], [25, 40, 1], [40, 40, 2], [9, 40, 2]]], np.float32)
    assert window.of_pose(pose)[0].tolist() == [[0, 0, 2], [30, 20, 1], [60, 20, 0], [-2, 20, 0]]
    labels = np.zeros((80, 50), np.uint8)
    labels[20:40, 10:25] = 2
    assert np.argwhere(window.of_labels(labels) == 2).max(axis=0).tolist() == [19, 29]
    assert window.of_image(np.zeros((80, 50, 3), np.uint8)).shape == (40, 60, 3)

from __future__ import annotations

import numpy as np
import pytest

from data_prep.synthetic import Rendered
from h2d.annotators.hand_masks import hands_of, join, judge, mend, window
from h2d.annotators.hand_regions import hand_length, hand_regions
from h2d.errors import DataError
from h2d.skeleton import HAND_LABELS, LEFT_HAND, RIGHT_HAND


def flat_hand(x: float = 60.0, y: float = 90.0) -> np.ndarray:
    """A hand with its wrist at (x, y), fingers pointing up."""
    fingers = [(x - 16 + 8 * f, y - 25 - 10 * j) for f in range(5) for j in range(4)]
    return np.array([(x, y), *fingers], float)


def pose_with(**hands: np.ndarray) -> np.ndarray:
    pose = np.zeros((133, 3), np.float32)
    for side, points in hands.items():
        part = RIGHT_HAND if side == "right" else LEFT_HAND
        pose[part, :2], pose[part, 2] = points, 2
    return pose


def test_regions_lie_within_each_other_and_end_at_the_wrist() -> None:
    regions = hand_regions(flat_hand(), (120, 120))
    assert regions.sure.any()
    assert not (regions.sure & ~regions.likely).any()
    assert not (regions.likely & ~regions.possible).any()
    assert not regions.possible[112:].any(), "the forearm is no hand"


def test_a_foreshortened_hand_is_not_short() -> None:
    hand = flat_hand()
    pointing = hand.copy()
    pointing[:, 1] = 90 + (hand[:, 1] - 90) * 0.3
    assert hand_length(pointing) > 0.6 * hand_length(hand)


def test_exact_masks_pass_and_score_high(two_hands: Rendered) -> None:
    scores = judge(two_hands.hands, two_hands.pose)
    assert set(scores) == {"right", "left"}
    for score in scores.values():
        assert score["inside"] > 0.9
        assert score["own"] > 0.9
        assert 0.5 < score["area"] < 2


def test_masks_that_cannot_be_right_are_refused() -> None:
    pose = pose_with(right=flat_hand())
    good = hand_regions(flat_hand(), (120, 120)).likely.astype(np.uint8)
    judge(good, pose)
    with pytest.raises(DataError, match=r"misses keypoints: right hand, 0\.00"):
        judge(np.zeros_like(good), pose)
    with pytest.raises(DataError, match="of the other hand"):
        judge(good * 2, pose)
    with pytest.raises(DataError, match="unlikely size"):
        judge(np.ones_like(good), pose)


def test_mend_keeps_the_parts_with_keypoints_and_dilates_once() -> None:
    mask = np.zeros((100, 100), bool)
    mask[50, 50] = mask[10, 10] = True
    mended = mend(mask, np.array([[50.5, 50.5]]))
    assert mended.sum() == 25
    assert mended[48:53, 48:53].all()


def test_a_checkerboard_is_closed() -> None:
    mask = np.zeros((40, 40), bool)
    mask[8:32, 8:32] = np.indices((24, 24)).sum(axis=0) % 2 == 0
    assert mend(mask, np.array([[20.5, 20.5], [21.5, 21.5]]))[8:32, 8:32].mean() > 0.99


def test_pixels_of_both_hands_go_to_the_nearer_bone() -> None:
    right, left = flat_hand(45), flat_hand(75)
    everything = np.ones((120, 120), bool)
    joined = join({"right": everything, "left": everything}, pose_with(right=right, left=left))
    assert joined[60, 40] == HAND_LABELS["right"]
    assert joined[60, 80] == HAND_LABELS["left"]


def test_points_outside_the_frame_are_moved_to_their_finger() -> None:
    pose = pose_with(left=flat_hand())
    pose[LEFT_HAND][8] = 0
    assert hands_of(pose)["left"][8].tolist() == hands_of(pose)["left"][7].tolist()
    assert list(hands_of(pose)) == ["left"]


def test_the_window_is_a_square_that_the_frame_clips() -> None:
    rows, columns = window(np.array([[40.0, 50.0], [60.0, 60.0]]), (100, 100), 2.0)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (35, 75, 30, 70)
    rows, _ = window(np.array([[0.0, 0.0], [50.0, 50.0]]), (100, 100), 2.0)
    assert rows.start == 0

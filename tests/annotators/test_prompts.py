from __future__ import annotations

import numpy as np
from PIL import Image

from data_prep.synthetic import Rendered
from h2d.annotators.hand_masks import hands_of, window
from h2d.annotators.prompts import SAM_CROP, hand_prompts, negatives
from h2d.skeleton import HAND_LABELS, HAND_SLICES


def test_a_hand_is_shown_in_its_own_crop(two_hands: Rendered) -> None:
    prompts = hand_prompts(two_hands.image, two_hands.pose, 256)
    assert list(prompts) == ["right", "left"]
    for side, points in hands_of(two_hands.pose).items():
        prompt = prompts[side]
        assert prompt.place == window(points, two_hands.image.shape[:2], SAM_CROP)
        height, width = prompt.picture.shape[:2]
        assert max(height, width) == 256
        scale = np.array([width, height]) / prompt.size[::-1]
        corner = (prompt.place[1].start, prompt.place[0].start)
        assert np.allclose(prompt.points[:21] / scale + corner, points)
        assert prompt.labels.tolist()[:21] == [1] * 21
        assert set(prompt.labels.tolist()[21:]) <= {0}
        assert (prompt.points >= 0).all()
        assert (prompt.points < (width, height)).all()
        x0, y0, x1, y1 = prompt.box
        assert 0 <= x0 < x1 < width
        assert 0 <= y0 < y1 < height


def test_the_picture_shows_the_place(two_hands: Rendered) -> None:
    for prompt in hand_prompts(two_hands.image, two_hands.pose, 512).values():
        small = Image.fromarray(prompt.picture).resize(prompt.size[::-1], Image.Resampling.BOX)
        assert np.abs(np.asarray(small, float) - two_hands.image[prompt.place]).mean() < 4  # levels


def test_points_beside_a_hand_never_lie_on_it(two_hands: Rendered) -> None:
    hands = hands_of(two_hands.pose)
    for side in hands:
        for x, y in negatives(side, two_hands.pose, hands).astype(int):
            if 0 <= x < 512 and 0 <= y < 512:
                assert two_hands.hands[y, x] != HAND_LABELS[side]


def test_joints_of_the_other_hand_in_the_overlap_say_nothing(two_hands: Rendered) -> None:
    pose = two_hands.pose.copy()
    hands = hands_of(pose)
    apart = len(negatives("right", pose, hands))
    pose[HAND_SLICES["left"], :2] += hands["right"].mean(axis=0) - hands["left"].mean(axis=0)
    hands = hands_of(pose)
    low, high = hands["right"].min(axis=0), hands["right"].max(axis=0)
    points = negatives("right", pose, hands)
    assert len(points) < apart
    assert not ((points[1:] >= low) & (points[1:] <= high)).all(axis=1).any()

import numpy as np
import torch

from h2d.pipelines.checks import mask_warnings, pose_warnings
from h2d.skeleton import BODY_NAMES, HAND_SLICES


def pose_of(x: float, y: float, width: float) -> np.ndarray:
    pose = np.zeros((133, 3), np.float32)
    steps = np.linspace(0, width, 21)
    pose[HAND_SLICES["left"]] = np.stack([x + steps, y + steps, np.full(21, 2)], axis=1)
    for part in ("elbow", "wrist"):
        pose[BODY_NAMES.index(f"left_{part}")] = (x, y, 2)
    return pose


def test_a_good_pose_has_none():
    assert pose_warnings(pose_of(100, 100, 60)[None], 512, 512, 8) == []


def test_no_hand():
    assert pose_warnings(np.zeros((1, 133, 3), np.float32), 512, 512, 8) == [
        "the pose has no hand: stage I has nothing to make, the outpainter paints everything"
    ]


def test_small_hand():
    assert pose_warnings(pose_of(100, 100, 10)[None], 512, 512, 8) == [
        "the left hand is less than 16 px wide and will lose its fingers"
    ]


def test_hand_outside_the_frame():
    assert pose_warnings(pose_of(500, 100, 60)[None], 512, 512, 8) == [
        "the left hand lies outside the 512 x 512 frame for the most part"
    ]
    assert pose_warnings(pose_of(480, 100, 40)[None], 512, 512, 8) == []


def test_hand_without_an_arm():
    pose = pose_of(100, 100, 60)
    pose[BODY_NAMES.index("left_wrist"), 2] = 0
    assert pose_warnings(pose[None], 512, 512, 8) == [
        "the left hand has no arm in the pose (wrist missing) and may float"
    ]


def test_an_empty_mask_is_named():
    mask = torch.zeros(1, 8, 8)
    assert mask_warnings(mask, ("right", "left")) == [
        "the mask of the right and the left hand came out empty: stage II paints without it; another seed may help"
    ]
    mask[0, 3, 3] = 0.6
    assert mask_warnings(mask, ("right",)) == []

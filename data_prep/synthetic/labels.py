"""Exact labels of a rendered person: the 133 COCO-WholeBody keypoints with their visibility, boxes of the hands."""

from __future__ import annotations

import numpy as np

from h2d.skeleton import BODY, FACE, FEET, HAND_LABELS, HAND_SLICES, MESH468_TO_FACE68, NUM_KEYPOINTS

from .body import Body
from .person import Person

_SMALL_TOES = (18, 21)
_FEET_ORDER = (0, 2, 4, 1, 3, 5)
"""The body model lists big, small toe and heel as left-right pairs; COCO-WholeBody one foot after the other."""


def _tolerances() -> np.ndarray:
    """(133,) metres by which a point inside the body may lie behind the visible surface."""
    metres = np.full(NUM_KEYPOINTS, 0.10)
    metres[:3], metres[3:5], metres[7:11] = 0.03, 0.05, 0.06
    metres[FACE] = 0.012
    hand = np.full(21, 0.018)
    hand[0], hand[1::4], hand[4::4] = 0.040, 0.030, 0.014
    for points in HAND_SLICES.values():
        metres[points] = hand
    return metres


def keypoints_3d(person: Person, body: Body) -> np.ndarray:
    """(133, 3) world positions."""
    points = np.empty((NUM_KEYPOINTS, 3))
    regressed = body.body_points(person.vertices)
    points[BODY], points[FEET] = regressed[:17], regressed[17:][list(_FEET_ORDER)]
    points[FACE] = person.vertices[body.face468[list(MESH468_TO_FACE68)]]
    for side, where in HAND_SLICES.items():
        points[where] = person.hand_points[side]
    return points


def exact_pose(person: Person, body: Body, depth: np.ndarray, size: int) -> np.ndarray:
    """(133, 3) float32 x, y in pixels of the (size, size) image and v: 0 unlabelled or outside, 1 hidden, 2 visible.

    Args:
        person: who was rendered.
        body: the body model.
        depth: (res, res) metres along the camera's axis, inf where the background is seen; res >= size.
        size: side of the image in pixels.
    """
    projected = person.camera.project(keypoints_3d(person, body), size)
    inside = (projected[:, :2] >= 0).all(1) & (projected[:, :2] < size).all(1) & (projected[:, 2] > 0.05)
    pose = np.zeros((NUM_KEYPOINTS, 3), np.float32)
    pose[inside, :2] = projected[inside, :2]
    scale = len(depth) / size
    col, row = np.clip((pose[:, :2] * scale).astype(int), 0, len(depth) - 1).T
    hidden = projected[:, 2] - depth[row, col] > _tolerances()
    pose[:, 2] = np.where(inside, np.where(hidden, 1, 2), 0)
    pose[list(_SMALL_TOES)] = 0  # MediaPipe has none, so no method can be asked for them
    return pose


def hand_boxes(hands: np.ndarray, pose: np.ndarray) -> dict[str, tuple[int, int, int, int]]:
    """x, y, width, height in pixels around the mask and the keypoints of every hand in the frame.

    Args:
        hands: (H, W) uint8 as in ``h2d.skeleton.HAND_LABELS``.
        pose: (133, 3) keypoints of the same image.
    """
    boxes = {}
    for side, label in HAND_LABELS.items():
        rows, cols = np.nonzero(hands == label)
        points = pose[HAND_SLICES[side]]
        points = points[points[:, 2] > 0]
        if len(rows) + len(points) == 0:
            continue
        x, y = np.r_[cols, points[:, 0]], np.r_[rows, points[:, 1]]
        low = np.floor([x.min(), y.min()]).astype(int)
        high = np.minimum(np.floor([x.max(), y.max()]).astype(int) + 1, hands.shape[::-1])
        boxes[side] = (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
    return boxes

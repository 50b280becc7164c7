"""From the joints of the data sets of hands to hand keypoints: their orders, and the camera that sees them.

Both orders are checked against drawings or the official loaders: InterHand2.6M's in its annotation files, the one of
Re:InterHand's fits in the loader of facebookresearch/InterWild.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from h2d.errors import DataError
from h2d.skeleton import HAND_SLICES, NUM_KEYPOINTS

INTERHAND = (20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16)
"""Joint of each hand keypoint among the 21 of a hand in InterHand2.6M, where tips come first and the wrist last."""
REINTERHAND = (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 22)
"""The same among the 24 of a hand in Re:InterHand's fits; Thumb_0, Pinky_0 and Forearm_Stub have no counterpart."""
HAND_JOINTS = 21
JOINTS = 2 * HAND_JOINTS
"""InterHand2.6M's joints of an image, right hand first."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion.

    Args:
        rotation: ``(3, 3)``, world to camera.
        translation: ``(3,)`` mm, so that ``Xc = rotation @ Xw + translation``.
        focal: ``(2,)`` px.
        centre: ``(2,)`` px, the principal point.
    """

    rotation: np.ndarray
    translation: np.ndarray
    focal: np.ndarray
    centre: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """``(N, 3)`` x, y in pixels and depth in mm of world points ``(N, 3)`` mm; NaN for those behind the camera."""
        seen = points @ self.rotation.T + self.translation
        depth = np.where(seen[:, 2:] > 0, seen[:, 2:], np.nan)
        return np.concatenate([seen[:, :2] / depth * self.focal + self.centre, depth], axis=1)


def sides(joints: np.ndarray) -> dict[str, np.ndarray]:
    """The hand keypoints ``(21, D)`` of each hand among InterHand2.6M's joints ``(42, D)``."""
    right, left = joints[:HAND_JOINTS], joints[HAND_JOINTS:]
    return {"right": right[list(INTERHAND)], "left": left[list(INTERHAND)]}


def hand_pose(hands: Mapping[str, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """A pose, float32 ``(133, 3)``, of hands alone. All its keypoints count as visible: no file tells hidden ones.

    Args:
        hands: by side the keypoints ``(21, 2)`` in pixels, NaN where a keypoint is not known.
        size: width and height of the image; keypoints outside are not labelled.

    Raises:
        DataError: all of them are outside.
    """
    pose = np.zeros((NUM_KEYPOINTS, 3), np.float32)
    for side, points in hands.items():
        rows = np.concatenate([points, np.full((HAND_JOINTS, 1), 2)], axis=1).astype(np.float32)
        inside = np.all((rows[:, :2] >= 0) & (rows[:, :2] < size), axis=1, keepdims=True)
        pose[HAND_SLICES[side]] = np.where(inside, rows, np.float32(0))
    if not pose.any():
        raise DataError("no joint inside the picture")
    return pose

"""Poses that cannot be sampled, and what is known to go badly with some, said before the sampling starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from h2d.masks import hand_extent, present_hands
from h2d.skeleton import BODY_NAMES, HAND_SLICES, NUM_KEYPOINTS

MIN_LATENT_CELLS = 2
MAX_FRAMES = 4
"""A labelled keypoint farther away than so many canvases is a mistake, such as the pixels of another image."""


def check_poses(pose: np.ndarray, count: int, size: int) -> np.ndarray:
    """Poses as float32 ``(B, 133, 3)``; a single one ``(133, 3)`` serves ``count`` prompts.

    Raises:
        ValueError: for another shape, or a labelled keypoint that is not finite or far from the canvas of ``size``.
    """
    poses = np.asarray(pose, dtype=np.float32)
    if poses.ndim == 2:
        poses = np.repeat(poses[None], count, axis=0)
    if poses.shape[1:] != (NUM_KEYPOINTS, 3):
        raise ValueError(f"pose must be an array (133, 3) or (B, 133, 3), got {np.shape(pose)}")
    labelled = poses[poses[..., 2] > 0]
    if not np.isfinite(labelled).all() or np.isnan(poses[..., 2]).any():
        raise ValueError("pose must have finite coordinates where v > 0, got NaN or infinity")
    farthest = np.abs(labelled[:, :2]).max(initial=0)
    if farthest > MAX_FRAMES * size:
        raise ValueError(f"pose must be in pixels of the {size} x {size} canvas, got a coordinate of {farthest:.0f}")
    return poses


def pose_warnings(pose: np.ndarray, size: int, factor: int) -> list[str]:
    """One line for each hand and problem, or for a pose without hands.

    Args:
        pose: ``(133, 3)`` in pixels of the canvas.
        size: side of the canvas.
        factor: image pixels per latent cell and side.
    """
    if not (hands := present_hands(pose)):
        return ["the pose has no hand: stage I has nothing to make"]
    return [line for hand in hands for line in _hand_warnings(pose, hand, size, factor)]


def mask_warnings(mask: Tensor, names: Sequence[str]) -> list[str]:
    """A line when stage I saw no hand in its own picture.

    Args:
        mask: predicted, ``(1, S, S)`` in [0, 1].
        names: the hands that the picture was to show.
    """
    if bool((mask > 0.5).any()):
        return []
    hands = " and the ".join(names)
    return [f"the mask of the {hands} hand came out empty: stage II paints without it; another seed may help"]


def _hand_warnings(pose: np.ndarray, hand: str, size: int, factor: int) -> list[str]:
    warnings = []
    points = pose[HAND_SLICES[hand]]
    points = points[points[:, 2] > 0, :2]
    if ((points < 0) | (points >= size)).any(axis=1).mean() > 0.5:
        warnings.append(f"the {hand} hand lies outside the {size} x {size} frame for the most part")
    x0, y0, x1, y1 = hand_extent(pose, (hand,))
    span, smallest = max(x1 - x0, y1 - y0), MIN_LATENT_CELLS * factor
    if span < smallest:
        warnings.append(f"the {hand} hand is less than {smallest} px wide and will lose its fingers")
    missing = [part for part in ("elbow", "wrist") if pose[BODY_NAMES.index(f"{hand}_{part}"), 2] == 0]
    if missing:
        warnings.append(f"the {hand} hand has no arm in the pose ({' and '.join(missing)} missing) and may float")
    return warnings

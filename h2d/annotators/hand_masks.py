"""From the raw masks of single hands to the label image of a sample: mended, judged by the keypoints, joined."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from h2d.annotators.hand_regions import distance_to_bones, hand_regions
from h2d.errors import DataError
from h2d.skeleton import FINGERS, HAND_LABELS, HAND_SLICES

DILATION = np.ones((5, 5), np.uint8)
"""One iteration mends the checkerboard and the gaps at the edges of SAM's masks (Section IV-A, Fig. 3)."""
MIN_INSIDE, MIN_OWN = 0.8, 0.5
"""Shares of a hand's keypoints that must lie in the mask of a hand, and in its own."""
AREA_RANGE = (0.25, 3.0)
"""Mask of a hand over the area that its keypoints suggest. Exact masks of rendered people lie in 0.8 .. 2.8."""


@dataclass(frozen=True)
class Segmentation:
    """Masks of one image.

    Args:
        hands: uint8 ``(H, W)``: 0 background, 1 right hand, 2 left hand.
        person: uint8 ``(H, W)``, 255 on the person, or None.
        scores: for each hand ``inside`` and ``own`` (shares of its keypoints in a hand's mask and in its own),
            ``area`` (mask over the area that the keypoints suggest) and, from SAM, ``iou`` (its own estimate).
    """

    hands: np.ndarray
    person: np.ndarray | None
    scores: dict[str, dict[str, float]]


def hands_of(pose: np.ndarray) -> dict[str, np.ndarray]:
    """Points ``(21, 2)`` of every hand of a pose ``(133, 3)`` that has a labelled keypoint, right hand first.

    Points that are not labelled (outside the frame) are moved to the labelled one before them in their finger.
    """
    hands = {}
    for side, part in HAND_SLICES.items():
        points, labelled = pose[part, :2].astype(np.float64), pose[part, 2] > 0
        if labelled.any():
            points[~labelled] = points[labelled].mean(axis=0)
            for before, here in (pair for chain in FINGERS.tolist() for pair in pairwise(chain)):
                if not labelled[here]:
                    points[here] = points[before]
            hands[side] = points
    return hands


def mend(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The connected parts of a boolean mask that hold a keypoint of ``(21, 2)``, dilated by 5 x 5."""
    import cv2

    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    held = np.unique(parts[places(points, mask.shape)])
    return cv2.dilate(np.isin(parts, held[held > 0]).astype(np.uint8), DILATION) > 0


def join(masks: dict[str, np.ndarray], pose: np.ndarray) -> np.ndarray:
    """Label image uint8 ``(H, W)`` of boolean masks; a pixel that both hands claim goes to the nearer bone."""
    joined = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for side, mask in masks.items():
        joined[mask] = HAND_LABELS[side]
    both = np.logical_and.reduce(list(masks.values()))
    if len(masks) == 2 and both.any():
        hands = hands_of(pose)
        right, left = (distance_to_bones(hands[side], joined.shape) for side in ("right", "left"))
        joined[both] = np.where(right <= left, HAND_LABELS["right"], HAND_LABELS["left"])[both]
    return joined


def judge(labels: np.ndarray, pose: np.ndarray) -> dict[str, dict[str, float]]:
    """Scores of a label image ``(H, W)`` against the keypoints of the hands, see ``Segmentation``.

    Raises:
        DataError: a hand's mask misses too many of its keypoints, belongs to the other hand, or has another size than
            its keypoints suggest.
    """
    scores = {}
    for side, points in hands_of(pose).items():
        score = scores[side] = _scores(labels, HAND_LABELS[side], points)
        if score["inside"] < MIN_INSIDE:
            raise DataError(f"hand mask misses keypoints: {side} hand, {score['inside']:.2f} inside")
        if score["own"] < MIN_OWN:
            raise DataError(f"hand mask of the other hand: {side} hand, {score['own']:.2f} in its own")
        if not AREA_RANGE[0] <= score["area"] <= AREA_RANGE[1]:
            raise DataError(f"hand mask of unlikely size: {side} hand, {score['area']:.2f} of what its bones suggest")
    return scores


def places(points: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that hold points ``(N, 2)``, clipped at the frame."""
    x, y = np.clip(np.floor(points).astype(int), 0, (shape[1] - 1, shape[0] - 1)).T
    return y, x


def window(points: np.ndarray, shape: tuple[int, ...], scale: float) -> tuple[slice, slice]:
    """Rows and columns of a square around a hand ``(21, 2)``, ``scale`` times its longer side, clipped at the frame."""
    centre, half = (points.min(axis=0) + points.max(axis=0)) / 2, scale / 2 * max(np.ptp(points, axis=0).max(), 8)
    low = np.floor(np.maximum(centre - half, 0)).astype(int)
    high = np.ceil(np.minimum(centre + half, shape[::-1])).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _scores(labels: np.ndarray, label: int, points: np.ndarray) -> dict[str, float]:
    values = labels[places(points, labels.shape)]
    rows, columns = window(points, labels.shape, 3.0)
    crop = labels[rows, columns]
    expected = max(int(hand_regions(points - (columns.start, rows.start), crop.shape).likely.sum()), 1)
    return {
        "inside": float((values > 0).mean()),
        "own": float((values == label).mean()),
        "area": float((labels == label).sum() / expected),
    }

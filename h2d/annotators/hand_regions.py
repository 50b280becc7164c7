"""Where a hand must be, may be and cannot be, from its 21 keypoints alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2d.skeleton import FINGERS, HAND_EDGES

PALM = (0, 1, 5, 9, 13, 17)
FINGER_RADIUS = 0.10
"""Half the width of a finger as a share of ``hand_length``."""
SURE, LIKELY, POSSIBLE = (0.3, -0.6), (1.0, 0.5), (2.8, 2.4)
"""Radius of the capsules around the bones, and growth of the palm, in finger radii. Chosen for the highest overlap with
the exact masks of rendered people; ``python -m data_prep.measure_masks`` measures it."""
WRIST_OVERHANG = 0.26
"""The hand ends this share of its length behind the wrist keypoint."""


@dataclass(frozen=True)
class Regions:
    """Boolean ``(H, W)`` masks, each within the next; ``bones`` are lines of one pixel."""

    bones: np.ndarray
    sure: np.ndarray
    likely: np.ndarray
    possible: np.ndarray


def hand_length(points: np.ndarray) -> float:
    """Distance in pixels from wrist to middle knuckle of a hand ``(21, 2)`` as it would be seen from the front.

    A hand that points at the camera looks short, so the longest of several bones speaks for all of them.
    """
    wrist, index, middle, little = points[[0, 5, 9, 17]]
    fingers = [np.linalg.norm(np.diff(points[chain[1:]], axis=0), axis=1).sum() for chain in FINGERS[1:]]
    lengths = (np.linalg.norm(middle - wrist), 1.35 * np.linalg.norm(index - little), 1.1 * max(fingers))
    return float(max(*lengths, 1.0))


def hand_regions(points: np.ndarray, shape: tuple[int, ...]) -> Regions:
    """Regions of a hand in an image of ``shape`` (H, W), from keypoints ``(21, 2)`` in its pixels."""
    length = hand_length(points)
    radius = FINGER_RADIUS * length
    wrist_side = _before_wrist(points, shape, WRIST_OVERHANG * length)
    palm = _polygon(points[list(PALM)], shape)
    sure, likely, possible = (
        (_capsules(points, shape, bones * radius) | _grown(palm, growth * radius)) & wrist_side
        for bones, growth in (SURE, LIKELY, POSSIBLE)
    )
    return Regions(_capsules(points, shape, 0), sure, likely | sure, possible | likely | sure)


def distance_to_bones(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """float32 ``(H, W)``: pixels to the nearest bone or palm of a hand ``(21, 2)``."""
    import cv2

    lines = np.full(shape, 255, np.uint8)
    for a, b in HAND_EDGES:
        cv2.line(lines, _pixel(points[a]), _pixel(points[b]), 0, 1)
    lines[_polygon(points[list(PALM)], shape)] = 0
    return cv2.distanceTransform(lines, cv2.DIST_L2, 5)


def _capsules(points: np.ndarray, shape: tuple[int, ...], radius: float) -> np.ndarray:
    import cv2

    canvas = np.zeros(shape, np.uint8)
    for a, b in HAND_EDGES:
        cv2.line(canvas, _pixel(points[a]), _pixel(points[b]), 1, max(1, round(2 * radius)))
    return canvas > 0


def _polygon(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    import cv2

    canvas = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(canvas, cv2.convexHull(np.rint(points - 0.5).astype(np.int32)), 1)
    return canvas > 0


def _grown(mask: np.ndarray, radius: float) -> np.ndarray:
    """The mask with its edge moved outwards by ``radius`` pixels, inwards when it is negative."""
    import cv2

    if radius > 0:
        return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) <= radius
    framed = np.pad(mask.astype(np.uint8), 1)
    return cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1] > -radius


def _before_wrist(points: np.ndarray, shape: tuple[int, ...], overhang: float) -> np.ndarray:
    """Pixels on the finger side of the line through the wrist, moved back by ``overhang``."""
    axis = points[[5, 9, 13, 17]].mean(axis=0) - points[0]
    axis /= max(float(np.linalg.norm(axis)), 1e-6)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return (x - points[0, 0]) * axis[0] + (y - points[0, 1]) * axis[1] > -overhang


def _pixel(point: np.ndarray) -> tuple[int, int]:
    x, y = np.rint(np.clip(point - 0.5, -10000, 10000)).astype(int)
    return int(x), int(y)

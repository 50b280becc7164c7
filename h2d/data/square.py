"""One square picture of a person, the canvas of stage II and of every evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from h2d.data.schema import Sample, hand_boxes
from h2d.skeleton import HAND_LABELS

HAND_ROOM, HEAD_ROOM = 0.1, 0.15
"""Room kept around the hands, and above the highest keypoint for the head, as shares of the shorter image side."""


def square_sample(sample: Sample, size: int) -> Sample:
    """Cut a square out of a sample and resize it.

    The square is as large as the image is wide or high, whichever is less, and lies where it holds the hands and as
    much of the person as fits, the head before the feet. Only when the hands are farther apart than that it grows
    beyond the image, whose border pixels are then repeated.

    Returns:
        The sample with image ``(size, size, 3)``, hand mask and person mask ``(size, size)``, and keypoints in pixels
        of the new image. Keypoints outside it get ``v = 0``.
    """
    height, width = sample.image.shape[:2]
    x, y, side = _window(sample, width, height)
    scale = size / side
    pose = _moved(sample.pose, x, y, scale, size)
    return replace(
        sample,
        image=_resized(_cut(sample.image, x, y, side, edge=True), size),
        hands=_resized_labels(_cut(sample.hands, x, y, side), size),
        person=None if sample.person is None else _resized_labels(_cut(sample.person, x, y, side), size),
        pose=pose,
        meta=dict(sample.meta, size=[size, size], hand_boxes=hand_boxes(pose)),
    )


def _window(sample: Sample, width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of the square, in whole pixels; only a square larger than the image leaves it."""
    short = min(width, height)
    hands = _extent(np.argwhere(np.isin(sample.hands, list(HAND_LABELS.values())))[:, ::-1])
    person = _extent(sample.pose[sample.pose[:, 2] > 0, :2])
    if person is None:
        person = np.array([[0, 0], [width, height]], float) if hands is None else hands
    if hands is None:
        hands = person.mean(axis=0, keepdims=True).repeat(2, axis=0)
    person[0, 1] = max(0.0, person[0, 1] - HEAD_ROOM * short)
    side = int(np.clip(np.ceil(np.ptp(hands, axis=0).max() + 2), short, max(width, height)))
    x = _place(hands[:, 0], person[:, 0], side, width, HAND_ROOM * short)
    y = _place(hands[:, 1], person[:, 1], side, height, HAND_ROOM * short, head_first=True)
    return x, y, side


def _place(
    hands: np.ndarray, person: np.ndarray, side: int, length: int, room: float, *, head_first: bool = False
) -> int:
    """Where the window starts along one axis."""
    if side >= length:
        return (length - side) // 2
    start = person[0] if head_first and np.ptp(person) > side else person.mean() - side / 2
    spare = min(room, (side - np.ptp(hands)) / 2)
    start = np.clip(start, hands[1] + spare - side, hands[0] - spare)
    return int(np.clip(round(float(start)), 0, length - side))


def _extent(points: np.ndarray) -> np.ndarray | None:
    """``(2, 2)`` smallest and largest x, y of points ``(N, 2)``; None without any."""
    return np.stack([points.min(axis=0), points.max(axis=0)]).astype(float) if len(points) else None


def _cut(array: np.ndarray, x: int, y: int, side: int, *, edge: bool = False) -> np.ndarray:
    height, width = array.shape[:2]
    part = array[max(y, 0) : y + side, max(x, 0) : x + side]
    margins = [(max(-y, 0), max(y + side - height, 0)), (max(-x, 0), max(x + side - width, 0))]
    if not np.any(margins):
        return part
    return np.pad(part, margins + [(0, 0)] * (array.ndim - 2), mode="edge" if edge else "constant")


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    return np.array(Image.fromarray(np.ascontiguousarray(image)).resize((size, size), Image.Resampling.BICUBIC))


def _resized_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """Each label covers the pixels of which it holds more than half; nearest-neighbour resizing would fray it."""
    result = np.zeros((size, size), labels.dtype)
    for label in np.unique(labels[labels > 0]):
        cover = Image.fromarray((labels == label).astype(np.uint8) * 255)
        result[np.asarray(cover.resize((size, size), Image.Resampling.BILINEAR)) > 127] = label
    return result


def _moved(pose: np.ndarray, x: int, y: int, scale: float, size: int) -> np.ndarray:
    moved = pose.copy()
    moved[:, :2] = (pose[:, :2] - (x, y)) * scale
    outside = ((moved[:, :2] < 0) | (moved[:, :2] >= size)).any(axis=1)
    moved[outside, 2] = 0
    return moved

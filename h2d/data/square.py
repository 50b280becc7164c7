"""One picture of the people, cut and resized: square for stage II and every evaluation, any shape for sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from PIL import Image

from h2d.data.schema import Sample, hand_boxes

HAND_ROOM, HEAD_ROOM = 0.1, 0.15
"""Room kept around the hands, and above the highest keypoint for the head, as shares of the shorter side of the largest
window that fits into the image."""


def square_sample(sample: Sample, size: int) -> Sample:
    """Cut a square out of a sample and resize it, see :func:`choose_window`.

    Returns:
        The sample with image ``(size, size, 3)``, hand mask and person mask ``(size, size)``, and keypoints in pixels
        of the new image. Keypoints outside it get ``v = 0``.
    """
    height, width = sample.image.shape[:2]
    points = sample.pose[sample.pose[:, 2] > 0, :2]
    window = choose_window(hand_corners(sample.hands), points, (width, height), (size, size))
    pose = window.of_pose(sample.pose)
    return replace(
        sample,
        image=window.of_image(sample.image),
        hands=window.of_labels(sample.hands),
        person=None if sample.person is None else window.of_labels(sample.person),
        pose=pose,
        meta=dict(sample.meta, size=[size, size], hand_boxes=hand_boxes(pose)),
    )


def hand_corners(hands: np.ndarray) -> np.ndarray:
    """``(2, 2)`` x, y of the box around the pixels of hands in a label image ``(H, W)``; ``(0, 2)`` without any."""
    spans = [np.flatnonzero(hands.any(axis=axis)) for axis in (0, 1)]
    if not len(spans[0]):
        return np.zeros((0, 2), np.int64)
    return np.array([[span[0] for span in spans], [span[-1] for span in spans]])


@dataclass(frozen=True)
class Window:
    """A part of an image that is brought to another size.

    Args:
        x: left edge in whole pixels of the image; the window may leave it.
        y: top edge.
        width: in pixels of the image.
        height: in pixels of the image.
        size: width and height of what comes out.
    """

    x: int
    y: int
    width: int
    height: int
    size: tuple[int, int]

    def of_image(self, image: np.ndarray) -> np.ndarray:
        """The window of ``(H, W, 3)``, bicubic; border pixels are repeated outside."""
        part = np.ascontiguousarray(self._cut(image, edge=True))
        if (self.width, self.height) == self.size:
            return part
        return np.array(Image.fromarray(part).resize(self.size, Image.Resampling.BICUBIC))

    def of_labels(self, labels: np.ndarray) -> np.ndarray:
        """The window of ``(H, W)``; 0 outside.

        Each label covers the pixels of which it holds more than half; nearest-neighbour resizing would fray it.
        """
        part = self._cut(labels)
        if (self.width, self.height) == self.size:
            return part
        result = np.zeros(self.size[::-1], labels.dtype)
        for label in np.flatnonzero(np.bincount(part.ravel())):
            if not label:  # the background
                continue
            cover = Image.fromarray((part == label).astype(np.uint8) * 255)
            result[np.asarray(cover.resize(self.size, Image.Resampling.BILINEAR)) > 127] = label
        return result

    def of_pose(self, pose: np.ndarray) -> np.ndarray:
        """Keypoints ``(..., 3)`` in pixels of what comes out; those outside it get ``v = 0``."""
        moved = pose.copy()
        scale = np.array(self.size) / (self.width, self.height)
        moved[..., :2] = (pose[..., :2] - (self.x, self.y)) * scale
        outside = ((moved[..., :2] < 0) | (moved[..., :2] >= self.size)).any(axis=-1)
        moved[outside, 2] = 0
        return moved

    def _cut(self, array: np.ndarray, *, edge: bool = False) -> np.ndarray:
        height, width = array.shape[:2]
        right, bottom = self.x + self.width, self.y + self.height
        part = array[max(self.y, 0) : bottom, max(self.x, 0) : right]
        margins = [(max(-self.y, 0), max(bottom - height, 0)), (max(-self.x, 0), max(right - width, 0))]
        if not np.any(margins):
            return part
        return np.pad(part, margins + [(0, 0)] * (array.ndim - 2), mode="edge" if edge else "constant")


def choose_window(hands: np.ndarray, people: np.ndarray, image: tuple[int, int], size: tuple[int, int]) -> Window:
    """Where to cut an image.

    The window is as large as fits into the image, and lies where it holds the hands and as much of the people as fits,
    the heads before the feet. Only when the hands are farther apart than that it grows beyond the image.

    Args:
        hands: ``(N, 2)`` x, y of what belongs to hands; may be empty.
        people: ``(M, 2)`` x, y of labelled keypoints; may be empty.
        image: width and height of the image.
        size: width and height to which the window will be brought; its shape, to a pixel.
    """
    shape = np.array(size) // gcd(*size)
    fit, cover = (np.array(image) / shape).min(), (np.array(image) / shape).max()
    short = fit * shape.min()
    hand, person = _extent(hands), _extent(people)
    if person is None:
        person = np.array([[0, 0], image], float) if hand is None else hand
    if hand is None:
        hand = person.mean(axis=0, keepdims=True).repeat(2, axis=0)
    person[0, 1] = max(0.0, person[0, 1] - HEAD_ROOM * short)
    unit = np.clip((np.ceil(np.ptp(hand, axis=0) + 2) / shape).max(), fit, cover)
    width, height = (max(1, round(side)) for side in (unit * shape).tolist())
    x = _place(hand[:, 0], person[:, 0], width, image[0], HAND_ROOM * short)
    y = _place(hand[:, 1], person[:, 1], height, image[1], HAND_ROOM * short, head_first=True)
    return Window(x, y, width, height, size)


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

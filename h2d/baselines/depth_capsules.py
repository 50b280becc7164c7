"""Hand depth maps without MANO: a capsule around each bone between MediaPipe's 3-D landmarks.

An approximation, and not HandRefiner's mesh: what it gives must be labelled so. MediaPipe's z is relative to the wrist
of its own hand, so which of two hands is nearer is guessed from their sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from h2d.baselines.hand_depth import HandMaps, box_mask
from h2d.detection import PoseDetector
from h2d.skeleton import HAND_EDGES, HAND_NAMES

FindHands = Callable[[Sequence[np.ndarray]], list[list[np.ndarray]]]
"""Hands ``(21, 3)`` in each uint8 image: x, y in pixels, z on the scale of x and relative to the wrist, less is nearer.
"""
_WRIST, _MIDDLE = HAND_NAMES.index("wrist"), HAND_NAMES.index("middle_mcp")
PALM_EDGES = ((5, 9), (9, 13), (13, 17), (1, 5))
"""Across the palm, in addition to the bones."""
PALM_POINTS = (0, 1, 5, 9, 13, 17)
FINGER_RADIUS, PALM_RADIUS = 0.09, 0.13
"""In lengths from the wrist to the middle finger's knuckle: a finger is about 17 mm thick, that length about 95 mm."""
FARTHEST = 0.8
"""The farthest point of a hand has the value 255 x (1 - 0.8) = 51, as in HandRefiner."""


class MediaPipeHands:
    """A :data:`FindHands` in a process of its own, which starts with the first image.

    ``close`` ends the process, and so does the end of this object or of the program; the next call starts another.
    """

    def __init__(self) -> None:
        self._detector: PoseDetector | None = None

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """See :data:`FindHands`.

        Raises:
            SetupError: the process died.
        """
        self._detector = self._detector or PoseDetector()
        return self._detector.hands(images)

    def close(self) -> None:
        """End the process."""
        if self._detector is not None:
            self._detector.close()
        self._detector = None


class CapsuleDepth:
    """A :class:`~h2d.baselines.hand_depth.HandDepth` on landmarks.

    Args:
        find: finds the hands; without it MediaPipe does.
    """

    label = "capsules around MediaPipe's hand landmarks, not HandRefiner's mesh"

    def __init__(self, find: FindHands | None = None) -> None:
        self.find = find or MediaPipeHands()

    def __call__(self, images: Sequence[np.ndarray]) -> list[HandMaps | None]:
        """See :class:`h2d.baselines.hand_depth.HandDepth`."""
        found = self.find(images)
        return [hand_maps(hands, image.shape[0]) for hands, image in zip(found, images, strict=True)]

    def close(self) -> None:
        """End MediaPipe's process."""
        if isinstance(self.find, MediaPipeHands):
            self.find.close()


def hand_maps(hands: Sequence[np.ndarray], size: int) -> HandMaps | None:
    """Maps of the hands ``(21, 3)`` of an image; None when none of them is in the frame.

    The larger hand counts as the nearer and covers the other.
    """
    depth, extents = np.zeros((size, size), np.uint8), []
    for hand in sorted(hands, key=lambda points: float(np.ptp(points[:, :2], axis=0).max())):
        drawn = _values(_surface(hand, size))
        if drawn.any():
            depth = np.where(drawn > 0, drawn, depth)
            extents.append(_extent(drawn, hand))
    return HandMaps(depth, box_mask(extents, size)) if extents else None


def _surface(hand: np.ndarray, size: int) -> np.ndarray:
    """The nearest z of each pixel's middle ``(S, S)``, infinite beside the hand."""
    nearest = np.full((size, size), np.inf)
    length = float(np.linalg.norm(hand[_MIDDLE] - hand[_WRIST]))
    for a, b in (*HAND_EDGES, *PALM_EDGES):
        in_palm = a in PALM_POINTS and b in PALM_POINTS
        _add_capsule(nearest, hand[a], hand[b], (PALM_RADIUS if in_palm else FINGER_RADIUS) * length)
    return nearest


def _add_capsule(nearest: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> None:
    """Minimum of ``nearest`` and the front of a capsule."""
    low = np.clip(np.floor(np.minimum(start, end)[:2] - radius), 0, len(nearest)).astype(int)
    high = np.clip(np.ceil(np.maximum(start, end)[:2] + radius), 0, len(nearest)).astype(int)
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]] + 0.5
    axis = end - start
    along = ((x - start[0]) * axis[0] + (y - start[1]) * axis[1]) / max(float(axis[:2] @ axis[:2]), 1e-9)
    along = along.clip(0, 1)
    squared = (x - start[0] - along * axis[0]) ** 2 + (y - start[1] - along * axis[1]) ** 2
    front = start[2] + along * axis[2] - np.sqrt(np.maximum(radius**2 - squared, 0))
    window = nearest[low[1] : high[1], low[0] : high[0]]
    np.minimum(window, np.where(squared < radius**2, front, np.inf), out=window)


def _values(surface: np.ndarray) -> np.ndarray:
    """uint8 ``(S, S)``: 255 nearest, 51 farthest, 0 beside the hand."""
    inside = np.isfinite(surface)
    values = np.zeros(surface.shape, np.uint8)
    if inside.any():
        z = surface[inside]
        values[inside] = np.round(255 * (1 - FARTHEST * (z - z.min()) / max(np.ptp(z), 1e-9)))
    return values


def _extent(drawn: np.ndarray, hand: np.ndarray) -> tuple[float, float, float, float]:
    """Box around the drawn pixels and the landmarks."""
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    (x0, y0), (x1, y1) = hand[:, :2].min(axis=0), hand[:, :2].max(axis=0)
    return (
        float(min(x0, columns[0])),
        float(min(y0, rows[0])),
        float(max(x1, columns[-1] + 1)),
        float(max(y1, rows[-1] + 1)),
    )

"""A pinhole camera that frames head, chest and raised hands."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .geometry import X, Y, Z, rotation, unit

NEAR = 0.02
"""Nothing closer than this many metres is drawn."""


@dataclass(frozen=True)
class Camera:
    """Place and orthonormal axes of a camera; ``focal`` in half images (the image spans [-1, 1])."""

    centre: np.ndarray
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    focal: float

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) right, up, depth of world points, metres."""
        return (points - self.centre) @ np.stack([self.right, self.up, self.forward], 1)

    def project(self, points: np.ndarray, size: int) -> np.ndarray:
        """(N, 3) x, y in pixels (the first pixel's centre is 0.5, y down) and depth in metres of world points."""
        right, up, depth = self.to_camera(np.asarray(points, np.float64)).T
        z = np.maximum(depth, NEAR)
        return np.stack([(right / z * self.focal + 1) * 0.5 * size, (1 - up / z * self.focal) * 0.5 * size, depth], 1)


def draw_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) rotation from the axes of a camera straight in front (looking along +y) to one slightly beside it."""
    return rotation(Z, rng.normal() * 10) @ rotation(X, -rng.normal() * 6)


def frame_person(
    view: np.ndarray,
    head: np.ndarray,
    chest: np.ndarray,
    shown: np.ndarray,
    hanging: np.ndarray,
    nearest: float,
    rng: np.random.Generator,
) -> Camera:
    """A camera that sees the head and all raised hands, and a hanging hand either wholly or not at all.

    Args:
        view: (3, 3) from ``draw_view``.
        head: (3,) middle of the head.
        chest: (3,) lower end of the breast bone.
        shown: (N, 3) keypoints of the raised hands.
        hanging: (M, 21, 3) keypoints of the hanging hands.
        nearest: least distance of the camera, metres.
        rng: source of distance, margins and roll.
    """
    for _ in range(30):
        camera = _fit(_draw(view, head, chest, shown, nearest, rng), shown)
        if not any(_is_cut(camera, hand) for hand in hanging):
            break
    return camera


def _draw(
    view: np.ndarray, head: np.ndarray, chest: np.ndarray, shown: np.ndarray, nearest: float, rng: np.random.Generator
) -> Camera:
    low_end = chest[2] - (rng.uniform(0, 0.2) if rng.random() < 0.85 else rng.uniform(0.3, 0.6))
    left, top = np.minimum(head[0] - 0.14, shown[:, 0].min() - 0.05), max(head[2] + 0.17, shown[:, 2].max() + 0.05)
    right, low = np.maximum(head[0] + 0.14, shown[:, 0].max() + 0.05), min(low_end, shown[:, 2].min() - 0.05)
    half = max(top - low, right - left) / 2 * rng.uniform(1.0, 1.25)
    middle = np.array([(left + right) / 2, head[1] - 0.05, (top + low) / 2])
    middle += np.array([rng.normal(), 0, rng.normal()]) * 0.06 * half
    distance = rng.uniform(nearest, 1.7)
    forward = view @ Y
    across = unit(np.cross(forward, Z))
    roll = rotation(forward, rng.normal() * 3)
    up = roll @ np.cross(across, forward)
    return Camera(middle - forward * distance, roll @ across, up, forward, float(distance / half))


def _fit(camera: Camera, shown: np.ndarray) -> Camera:
    """Zoom out until the raised hands are inside the image."""
    right, up, depth = camera.to_camera(shown).T
    widest = max(np.abs(right / depth).max(), np.abs(up / depth).max())
    return replace(camera, focal=min(camera.focal, 0.95 / float(widest)))


def _is_cut(camera: Camera, hand: np.ndarray) -> bool:
    """Whether the edge of the image runs through (or within about 3 cm of) a hand."""
    right, up, depth = camera.to_camera(hand).T
    half = depth / camera.focal
    beyond = np.maximum(np.abs(right), np.abs(up)) - half
    return bool((beyond < 0.04).any() and (beyond > -0.02).any())

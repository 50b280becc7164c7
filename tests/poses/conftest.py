from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from h2d.poses.scene import Scene
from h2d.skeleton import HAND_SLICES

Hand = Callable[[float, float, float], np.ndarray]


@pytest.fixture(scope="session")
def hand() -> Hand:
    """``hand(x, y, length)``: 21 keypoints of an open hand with its wrist at x, y and its fingers up."""

    def points(x: float, y: float, length: float) -> np.ndarray:
        rows = [(x, y, 2.0)]
        for finger in range(5):
            rows += [(x + (finger - 2) * length / 6, y - length * (2 + joint) / 5, 2.0) for joint in range(4)]
        return np.array(rows, np.float32)

    return points


@pytest.fixture(scope="session")
def pose(hand: Hand) -> Callable[..., np.ndarray]:
    """``pose(right=(x, y, length), left=..., body=[(index, x, y), ...])`` as ``(133, 3)``."""

    def build(body: Any = (), **hands: tuple[float, float, float]) -> np.ndarray:
        pose = np.zeros((133, 3), np.float32)
        for index, x, y in body:
            pose[index] = x, y, 2
        for side, place in hands.items():
            pose[HAND_SLICES[side]] = hand(*place)
        return pose

    return build


@pytest.fixture(scope="session")
def scene() -> Callable[..., Scene]:
    """``scene(width, height, pose, ...)`` with a grey picture."""

    def build(width: int, height: int, *people: np.ndarray, **changes: Any) -> Scene:
        image = np.full((height, width, 3), 90, np.uint8)
        fields = {"image": image, "people": np.stack(people), "hands": None, "caption": "", "has_picture": True}
        return Scene(**{"name": "a picture", **fields, **changes})

    return build

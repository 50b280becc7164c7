"""A picture's people, and how they are brought to the size of the canvas."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from h2d.data.square import choose_window, hand_corners
from h2d.skeleton import HANDS


@dataclass(frozen=True)
class Scene:
    """People to be drawn.

    Args:
        name: how messages call it: the file, or ``FOLDER::KEY``.
        image: uint8 ``(H, W, 3)`` RGB; black where the source has no picture.
        people: float32 ``(P, 133, 3)``, P at least 1: x, y in pixels of ``image``, v in {0, 1, 2}.
        hands: uint8 ``(H, W)``: 0 background, 1 a right hand, 2 a left one; None where nobody gave the masks.
        caption: one line of text; empty where the source has none.
        has_picture: whether ``image`` is one.
    """

    name: str
    image: np.ndarray
    people: np.ndarray
    hands: np.ndarray | None
    caption: str
    has_picture: bool


def frame_scene(scene: Scene, width: int, height: int) -> Scene:
    """Cut a scene to the shape of a canvas and resize it.

    One person on a square canvas is cut as :func:`h2d.data.square.square_sample` does; of several people, the hands and
    keypoints of all count. Keypoints outside get ``v = 0``. Somebody of whom no keypoint is left is dropped, unless
    nobody has any left.

    Args:
        scene: of any size.
        width: of the canvas in pixels.
        height: of the canvas in pixels.

    Returns:
        A scene with image ``(height, width, 3)``, hands ``(height, width)`` or None, and people in its pixels.
    """
    size = (scene.image.shape[1], scene.image.shape[0])
    points = scene.people[scene.people[..., 2] > 0, :2]
    hands = _hand_points(scene.people, size) if scene.hands is None else hand_corners(scene.hands)
    window = choose_window(hands, points, size, (width, height))
    people = window.of_pose(scene.people)
    left = (people[..., 2] > 0).any(axis=1)
    return replace(
        scene,
        image=window.of_image(scene.image),
        people=people[left] if left.any() else people,
        hands=None if scene.hands is None else window.of_labels(scene.hands),
    )


def _hand_points(people: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``(N, 2)`` the pixels of an image of ``size`` (width, height) nearest to the labelled keypoints of hands."""
    hands = people[:, HANDS]
    points = np.rint(hands[hands[..., 2] > 0, :2])
    return points[((points >= 0) & (points < size)).all(axis=1)]

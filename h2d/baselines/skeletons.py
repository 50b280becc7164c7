"""Skeletons as the compared systems were trained on them; ControlNet's v1.1 drawing is in ``h2d.rendering``."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from h2d.rendering import BODY_RADIUS, DRAWING_SIZE, LIMB_HALF_WIDTH, draw_openpose
from h2d.skeleton import (
    BODY,
    FACE,
    HUMANSD_BONES,
    HUMANSD_RGB,
    OPENPOSE_FROM_BODY,
    OPENPOSE_LIMBS,
    OPENPOSE_RGB,
)

OLD_WEIGHTS = 0.4, 0.6
"""Share of the canvas and of the limb where v1.0 lays a limb over it."""
HUMANSD_LINE, HUMANSD_RADIUS = 10, 5


def draw_openpose_v10(pose: np.ndarray, size: int, hands: bool) -> np.ndarray:
    """The body in OpenPose's v1.0 manner: joints first, then each limb in its full colour, half transparent.

    ControlNet v1.0 and T2I-Adapter (SD 1.x) were trained on it. Both versions draw hands alike, over the body.

    Args:
        pose: ``(133, 3)`` in pixels of the result; points with ``v = 0`` are left out.
        size: of the result; the drawing is made at 512 and resized by area.
        hands: whether hands are drawn. T2I-Adapter's own code, and the demo of ControlNet v1.0, leave them out.

    Returns:
        uint8 RGB ``(size, size, 3)``, black background.
    """
    pose = _at_drawing_size(pose, size)
    canvas = _draw_body(pose[BODY])
    if hands:
        others = pose.copy()
        others[BODY, 2] = others[FACE, 2] = 0
        drawn = draw_openpose(others, DRAWING_SIZE)
        canvas = np.where(drawn.any(axis=2, keepdims=True), drawn, canvas)
    return _resized(canvas, size)


def draw_humansd(pose: np.ndarray, size: int) -> np.ndarray:
    """HumanSD's skeleton: 16 bones between the 17 body keypoints, without hands, face and neck.

    Later bones cover earlier ones. As in its training, a joint outside the frame counts as missing.

    Args:
        pose: ``(133, 3)`` in pixels of the result; a bone needs ``v > 0`` at both ends.
        size: of the result; the drawing is made at 512 and resized by area.

    Returns:
        uint8 RGB ``(size, size, 3)``, black background.
    """
    body = _at_drawing_size(pose, size)[BODY]
    inside = (body[:, 2] > 0) & ((body[:, :2] >= 0) & (body[:, :2] < DRAWING_SIZE)).all(axis=1)
    canvas = _black()
    for (a, b), colour in zip(HUMANSD_BONES, HUMANSD_RGB, strict=True):
        if inside[a] and inside[b]:
            ends = _pixel(body[a]), _pixel(body[b])
            cv2.line(canvas, *ends, colour, HUMANSD_LINE)
            for end in ends:
                cv2.circle(canvas, end, HUMANSD_RADIUS, colour, -1)
    return _resized(canvas, size)


def _draw_body(body: np.ndarray) -> np.ndarray:
    canvas = _black()
    joints = [_joint(body, list(sources)) for sources in OPENPOSE_FROM_BODY]
    for joint, colour in zip(joints, OPENPOSE_RGB, strict=True):
        if joint is not None:
            cv2.circle(canvas, _pixel(joint), BODY_RADIUS, colour, -1)
    for (a, b), colour in zip(OPENPOSE_LIMBS, OPENPOSE_RGB[:-1], strict=True):
        start, end = joints[a], joints[b]
        if start is not None and end is not None:
            limb = cv2.fillConvexPoly(canvas.copy(), _outline(start, end), colour)
            canvas = cv2.addWeighted(canvas, OLD_WEIGHTS[0], limb, OLD_WEIGHTS[1], 0)
    return canvas


def _joint(body: np.ndarray, sources: list[int]) -> np.ndarray | None:
    return body[sources, :2].mean(axis=0) if (body[sources, 2] > 0).all() else None


def _outline(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    dx, dy = start - end
    axes = int(np.hypot(dx, dy) / 2), LIMB_HALF_WIDTH
    return np.array(cv2.ellipse2Poly(_pixel((start + end) / 2), axes, int(np.degrees(np.arctan2(dy, dx))), 0, 360, 1))


def _black() -> np.ndarray:
    return np.zeros((DRAWING_SIZE, DRAWING_SIZE, 3), np.uint8)


def _at_drawing_size(pose: np.ndarray, size: int) -> np.ndarray:
    moved = pose.astype(np.float64)
    moved[:, :2] *= DRAWING_SIZE / size
    return moved


def _resized(canvas: np.ndarray, size: int) -> np.ndarray:
    return canvas if size == DRAWING_SIZE else cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def _pixel(point: Sequence[float] | np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])

"""Keypoints made visible: finger heat maps for the hand generator, skeletons for the ControlNet, and overlays."""

from __future__ import annotations

import colorsys
import math
from types import ModuleType
from typing import Literal, NamedTuple

import numpy as np

from h2d.skeleton import (
    BODY,
    FACE,
    FINGERS,
    HAND_EDGES,
    HAND_LABELS,
    HAND_SLICES,
    OPENPOSE_FROM_BODY,
    OPENPOSE_LIMBS,
    OPENPOSE_RGB,
)

Wrist = Literal["all", "none", "thumb"]

DRAWING_SIZE = 512
"""Line widths below are pixels of this canvas, on which the openpose ControlNet was trained."""
LIMB_HALF_WIDTH, BODY_RADIUS, HAND_LINE, HAND_RADIUS, FACE_RADIUS = 4, 4, 2, 4, 3
HAND_JOINT_RGB, FACE_RGB = (0, 0, 255), (255, 255, 255)
OVERLAY_RGB = {"right": (255, 80, 40), "left": (40, 160, 255)}


def finger_heatmaps(pose: np.ndarray, size: int, sigma_px: float, wrist: Wrist = "all") -> np.ndarray:
    """Draw each finger's keypoints into a channel of its own (Section III-B).

    Args:
        pose: ``(133, 3)`` keypoints in pixels of a ``size`` x ``size`` crop; points with ``v = 0`` are not drawn.
        size: height and width of the maps.
        sigma_px: standard deviation of the Gaussians, in pixels of the crop.
        wrist: into which fingers' channels the wrist is drawn.

    Returns:
        float32 ``(10, size, size)`` in [0, 1]: right thumb..little, then left thumb..little. The peak is 1;
        points of one channel are combined by maximum.
    """
    return _heatmaps(pose, np.arange(size, dtype=np.float32) + 0.5, sigma_px, wrist)


def small_heatmaps(pose: np.ndarray, size: int, cells: int, sigma_px: float, wrist: Wrist = "all") -> np.ndarray:
    """:func:`finger_heatmaps` at the size of the latents, shrunk bilinearly (:func:`h2d.masks.shrink_maps`).

    Of each cell that needs the pixels around its middle only, so no others are drawn.

    Args:
        pose: see :func:`finger_heatmaps`.
        size: of the crop in pixels, a multiple of ``cells``.
        cells: height and width of the maps.
        sigma_px: in pixels of the crop.
        wrist: see :func:`finger_heatmaps`.

    Returns:
        float32 ``(10, cells, cells)`` in [0, 1].
    """
    factor = size // cells
    middle = np.arange(cells, dtype=np.float32)[:, None] * factor + factor / 2
    pixels = middle + (np.array([[0]]) if factor % 2 else np.array([[-0.5, 0.5]]))
    around = pixels.shape[1]
    maps = _heatmaps(pose, pixels.reshape(-1).astype(np.float32), sigma_px, wrist)
    starts = range(around)
    return sum(maps[:, row::around, column::around] for row in starts for column in starts) / around**2


def _heatmaps(pose: np.ndarray, centres: np.ndarray, sigma_px: float, wrist: Wrist) -> np.ndarray:
    """The maps at some rows and columns: the middles of their pixels, ascending."""
    maps = np.zeros((10, len(centres), len(centres)), np.float32)
    for hand, part in enumerate(HAND_SLICES.values()):
        points = pose[part]
        columns, rows = (_Bells.at(points[:, axis], centres, sigma_px) for axis in (0, 1))
        for finger, chain in enumerate(FINGERS):
            with_wrist = wrist == "all" or (wrist == "thumb" and finger == 0)
            for point in chain if with_wrist else chain[1:]:
                if points[point, 2] > 0:
                    _add_gaussian(maps[5 * hand + finger], rows, columns, point)
    return maps


class _Bells(NamedTuple):
    """Gaussians along an axis: values (N, L), and where each begins and ends."""

    values: np.ndarray
    starts: list[int]
    stops: list[int]

    @classmethod
    def at(cls, points: np.ndarray, centres: np.ndarray, sigma: float) -> _Bells:
        """Of points (N,) at the middles (L,) of pixels, within four standard deviations (0.0003 of the peak)."""
        values = np.exp(-((centres - points[:, None]) ** 2) / (2 * sigma**2))
        starts, stops = (np.searchsorted(centres, points + side * sigma).tolist() for side in (-4, 4))
        return cls(values, starts, stops)

    def of(self, point: int) -> tuple[slice, np.ndarray]:
        """Where the bell of a point is, and its values there."""
        part = slice(self.starts[point], self.stops[point])
        return part, self.values[point, part]


def _add_gaussian(channel: np.ndarray, rows: _Bells, columns: _Bells, point: int) -> None:
    """Maximum of ``channel`` and the Gaussian of a point."""
    (high, vertical), (wide, horizontal) = rows.of(point), columns.of(point)
    window = channel[high, wide]
    np.maximum(window, vertical[:, None] * horizontal, out=window)


def draw_openpose(pose: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """Draw body, hands and face in OpenPose's v1.1 convention, the one of ``control_v11p_sd15_openpose``.

    Args:
        pose: keypoints of one person ``(133, 3)`` or of several ``(P, 133, 3)``, in pixels of the result; points with
            ``v = 0`` are left out. All bodies are drawn before all hands, and those before all faces.
        height: of the result. The drawing is always made with a shorter side of 512 and then resized by area, so that
            line widths are what the ControlNet saw in training.
        width: of the result, its height when left out.

    Returns:
        uint8 RGB ``(height, width, 3)``, black background.
    """
    cv2 = _cv2()
    width = width or height
    scale = DRAWING_SIZE / min(height, width)
    people = pose.reshape(-1, *pose.shape[-2:]).astype(np.float64)
    people[..., :2] *= scale
    canvas = np.zeros((round(height * scale), round(width * scale), 3), np.uint8)
    for person in people:
        _draw_body(cv2, canvas, person[BODY].tolist())
    for person in people:
        for side in ("left", "right"):
            _draw_hand(cv2, canvas, person[HAND_SLICES[side]])
    for pixel in _pixels(people[:, FACE].reshape(-1, 3)):
        if pixel:
            cv2.circle(canvas, pixel, FACE_RADIUS, FACE_RGB, -1)
    if scale == 1:
        return canvas
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


def _draw_body(cv2: ModuleType, canvas: np.ndarray, body: list[list[float]]) -> None:
    joints = [_middle([body[source] for source in sources]) for sources in OPENPOSE_FROM_BODY]
    for (a, b), colour in zip(OPENPOSE_LIMBS, OPENPOSE_RGB[:-1], strict=True):
        start, end = joints[a], joints[b]
        if start and end:
            dx, dy = start[0] - end[0], start[1] - end[1]
            middle = (int((start[0] + end[0]) / 2), int((start[1] + end[1]) / 2))
            axes = (int(math.hypot(dx, dy) / 2), LIMB_HALF_WIDTH)
            outline = cv2.ellipse2Poly(middle, axes, int(math.degrees(math.atan2(dy, dx))), 0, 360, 1)
            cv2.fillConvexPoly(canvas, outline, [int(0.6 * value) for value in colour])
    for joint, colour in zip(joints, OPENPOSE_RGB, strict=True):
        if joint:
            cv2.circle(canvas, (int(joint[0]), int(joint[1])), BODY_RADIUS, colour, -1)


def _middle(points: list[list[float]]) -> tuple[float, float] | None:
    """Between keypoints, if all of them are labelled."""
    if any(v <= 0 for _, _, v in points):
        return None
    return sum(point[0] for point in points) / len(points), sum(point[1] for point in points) / len(points)


def _draw_hand(cv2: ModuleType, canvas: np.ndarray, hand: np.ndarray) -> None:
    pixels = _pixels(hand)
    for (a, b), colour in zip(HAND_EDGES, _HAND_RGB, strict=True):
        if pixels[a] and pixels[b]:
            cv2.line(canvas, pixels[a], pixels[b], colour, HAND_LINE)
    for pixel in pixels:
        if pixel:
            cv2.circle(canvas, pixel, HAND_RADIUS, HAND_JOINT_RGB, -1)


def overlay(image: np.ndarray, pose: np.ndarray, hands: np.ndarray | None = None) -> np.ndarray:
    """Draw keypoints and hand masks over a photograph so that a person can check them.

    Args:
        image: uint8 RGB ``(H, W, 3)``.
        pose: ``(133, 3)``, or ``(P, 133, 3)`` for several people, in pixels of the image.
        hands: optional uint8 ``(H, W)``: 0 background, 1 right hand, 2 left hand.

    Returns:
        uint8 RGB ``(H, W, 3)``: right hand orange, left hand blue, body green, face white.
    """
    result = image.copy()
    for name, colour in OVERLAY_RGB.items():
        if hands is not None:
            inside = hands == HAND_LABELS[name]
            result[inside] = (0.5 * result[inside] + 0.5 * np.array(colour)).astype(np.uint8)
    for person in pose[None] if pose.ndim == 2 else pose:
        _draw_over(result, person, max(1, round(max(image.shape[:2]) / 400)))
    return result


def _draw_over(picture: np.ndarray, pose: np.ndarray, unit: int) -> None:
    """One person ``(133, 3)``, with lines of ``unit`` pixels."""
    cv2 = _cv2()
    body = pose[BODY]
    for a, b in ((5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12)):
        if body[a, 2] > 0 and body[b, 2] > 0:
            cv2.line(picture, _pixel(body[a]), _pixel(body[b]), (60, 220, 60), unit, cv2.LINE_AA)
    for x, y, v in pose[FACE]:
        if v > 0:
            cv2.circle(picture, (int(x), int(y)), unit, FACE_RGB, -1)
    for points in HAND_SLICES.values():
        hand = pose[points]
        for (a, b), colour in zip(HAND_EDGES, _HAND_RGB, strict=True):
            if hand[a, 2] > 0 and hand[b, 2] > 0:
                cv2.line(picture, _pixel(hand[a]), _pixel(hand[b]), colour, unit, cv2.LINE_AA)


def _pixels(points: np.ndarray) -> list[tuple[int, int] | None]:
    """Pixels of points (N, 3); OpenPose v1.1 skips hand and face points whose integer coordinates are not positive."""
    return [(int(x), int(y)) if v > 0 and int(x) > 0 and int(y) > 0 else None for x, y, v in points.tolist()]


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _hue(hue: float) -> tuple[float, float, float]:
    """Fully saturated colour of a hue in [0, 1), as floats in [0, 255]: OpenCV rounds them as the original does."""
    red, green, blue = colorsys.hsv_to_rgb(hue, 1.0, 1.0)
    return 255 * red, 255 * green, 255 * blue


_HAND_RGB = tuple(_hue(index / len(HAND_EDGES)) for index in range(len(HAND_EDGES)))


def _cv2() -> ModuleType:
    """OpenCV without its own threads: the callers run in worker processes."""
    import cv2

    cv2.setNumThreads(0)
    return cv2

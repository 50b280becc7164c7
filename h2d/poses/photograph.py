"""People of a photograph, found by MediaPipe Holistic (Section IV-A), which sees one person at a time.

Further people are looked for with those who are found painted over, in the whole photograph and then in parts of it, in
which smaller people come out larger. Of 35 photographs that show one person or nobody this finds nobody more in any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from h2d.annotators.pose import PoseResult
from h2d.detection import DETECT_SIZE, Detector, detect_enlarged
from h2d.errors import DataError
from h2d.images import ImageError, load_image
from h2d.poses.listing import most_prominent
from h2d.poses.scene import Scene
from h2d.skeleton import BODY

PARTS = ((1.5, 2), (2.0, 3), (3.0, 5))
"""How many times shorter than the photograph parts are along its longer side, and how many of them there are."""
MIN_BODY = 5
"""Fewer body keypoints are no further person."""
MAX_COVERED = 0.5
"""Somebody with a larger share of keypoints on people who are painted over is one of them again."""
GROWTH = 0.06
"""Painted beyond the outermost keypoints, as a share of the person's longer side."""


def read_photograph(path: Path, people: int, detector: Detector | None = None) -> Scene:
    """The most prominent people of a photograph, at most so many; hands that are not found are left out of a pose.

    Args:
        path: of the photograph.
        people: at most so many, at least 1.
        detector: finds one person; MediaPipe in this process when left out, which needs no main guard in a script.

    Raises:
        DataError: the file is no picture, or nobody is found in it.
    """
    try:
        image = load_image(path)
    except ImageError as error:
        hint = "give a photograph, a JSON file of keypoints, or a folder of shards"
        raise DataError(error.message, hint) from error
    detector = detector or _detect_here
    poses = _first(image, detector) if people == 1 else find_people(image, detector)
    if not poses:
        hint = "use a larger or brighter photograph, with head and shoulders in view, or a JSON file of keypoints"
        raise DataError(f"{path}: nobody is found in it", hint)
    return Scene(str(path), image, np.stack(most_prominent(poses, people)), None, "", has_picture=True)


def _detect_here(images: Sequence[np.ndarray]) -> list[PoseResult]:
    return [detect_enlarged(image, DETECT_SIZE) for image in images]


def _first(image: np.ndarray, detector: Detector) -> list[np.ndarray]:
    result = detector([image])[0]
    return [result.pose] if result.found else []


def find_people(image: np.ndarray, detector: Detector) -> list[np.ndarray]:
    """Poses ``(133, 3)`` of everybody found in a photograph uint8 ``(H, W, 3)``.

    Whoever is found first, in the whole photograph, is taken as one is who is alone; all others must show a face or a
    hand, without which patterns and clothes are often taken for a body.
    """
    poses: list[np.ndarray] = []
    covered, paint = np.zeros(image.shape[:2], bool), image.mean(axis=(0, 1)).astype(np.uint8)
    for rows, columns in _parts(image.shape[0], image.shape[1]):
        while True:
            rest = np.where(covered[rows, columns, None], paint, image[rows, columns])
            result = detector([rest])[0]
            pose = result.pose.copy()
            pose[pose[:, 2] > 0, :2] += (columns.start, rows.start)
            first = not covered.any() and rest.shape == image.shape
            if not (first and result.found) and not _is_new(pose, covered):
                break
            if first or _shows_face_or_hand(result):
                poses.append(pose)
            _cover(covered, pose)
    return poses


def _parts(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the whole, then of overlapping parts along the longer side."""
    yield slice(0, height), slice(0, width)
    longer = max(height, width)
    for share, count in PARTS:
        side = max(1, round(longer / share))
        for start in np.linspace(0, longer - side, count).round().astype(int).tolist():
            along, across = slice(start, start + side), slice(0, min(height, width))
            yield (across, along) if width >= height else (along, across)


def _is_new(pose: np.ndarray, covered: np.ndarray) -> bool:
    x, y, v = pose.astype(int).T
    return (pose[BODY, 2] > 0).sum() >= MIN_BODY and covered[y[v > 0], x[v > 0]].mean() <= MAX_COVERED


def _shows_face_or_hand(result: PoseResult) -> bool:
    return bool(result.found - {"body"})


def _cover(covered: np.ndarray, pose: np.ndarray) -> None:
    """Mark the hull of somebody's keypoints, grown a little, in the boolean mask ``(H, W)``."""
    import cv2

    points = pose[pose[:, 2] > 0, :2]
    radius = 1 + round(GROWTH * float(np.ptp(points, axis=0).max()))
    hull = np.zeros(covered.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points.astype(np.int32)), 1)
    covered |= cv2.dilate(hull, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)) > 0

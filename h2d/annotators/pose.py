"""Whole-body keypoints of a photograph with MediaPipe Holistic (Section IV-A). The only place that finds poses.

Every image stands for itself: a result never depends on the images before it. Holistic reports one person. Left and
right are the person's own.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from h2d.skeleton import (
    BODY,
    FACE,
    FEET,
    HAND_SLICES,
    MEDIAPIPE_BODY,
    MEDIAPIPE_FEET,
    MESH468_TO_FACE68,
    NUM_KEYPOINTS,
)

SAME_HAND = 0.15
"""Two hands whose joints lie closer than this share of the hand's size are one physical hand found twice."""
_NOBODY = np.zeros((64, 64, 3), np.uint8)
"""Even in static mode the graph looks for a hand where the image before had one, which moves joints by some pixels when
two images have their hands in one place. An image without hands makes it forget."""
RECYCLE_AFTER = 500
"""Images after which the graph is built anew, so that what it holds on to stays bounded."""


@dataclass(frozen=True)
class PoseResult:
    """A found person, or nobody (all ``v`` 0).

    Args:
        pose: float32 ``(133, 3)``: x, y in pixels of the image, v in {0, 2}.
        score: mean visibility of the body keypoints inside the frame, 0 for nobody.
        found: subset of ``{"body", "face", "left_hand", "right_hand"}``.
    """

    pose: np.ndarray
    score: float
    found: frozenset[str]


class HolisticPose:
    """Finds one person's 133 keypoints. Build it freely (it is picklable until first used); the graph comes lazily.

    Args:
        visibility: body and foot keypoints below this visibility count as not labelled.
    """

    def __init__(self, visibility: float = 0.5) -> None:
        self.visibility = visibility
        self._graph: Any = None
        self._seen = 0
        self._has_spoken = False

    @property
    def made_by(self) -> str:
        """The name of this annotator in a sample's metadata."""
        return f"mediapipe-{importlib.metadata.version('mediapipe')} holistic c1"

    def __enter__(self) -> HolisticPose:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the graph; the next ``detect`` builds another."""
        if self._graph is not None:
            self._graph.close()
        self._graph, self._seen, self._has_spoken = None, 0, False

    def detect(self, image: np.ndarray) -> PoseResult:
        """Keypoints of the most prominent person.

        Args:
            image: uint8 ``(H, W, 3)`` RGB, both sides at least one pixel.

        Raises:
            ValueError: the array is anything else (an empty one would break the graph for every later image).
        """
        return _result(self._process(image), image.shape, self.visibility)

    def hands(self, image: np.ndarray) -> list[np.ndarray]:
        """Landmarks in three dimensions of the hands that ``detect`` finds.

        Args:
            image: as for ``detect``.

        Returns:
            float32 ``(21, 3)`` for each hand, left before right: x, y in pixels, also of joints outside the frame;
            z on the scale of x and relative to the wrist, less is nearer.

        Raises:
            ValueError: as for ``detect``.
        """
        return _hands(self._process(image), image.shape, self.visibility)

    def _process(self, image: np.ndarray) -> Any:
        """What the graph says about an image that ``detect`` was given."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"image must be uint8 (H, W, 3) and not empty, not {image.dtype} {image.shape}")
        if self._seen >= RECYCLE_AFTER:
            self.close()
        image = np.ascontiguousarray(image)
        self._seen += 1
        with nullcontext() if self._has_spoken else quiet_stderr():
            self._graph = self._graph or _new_graph()
            results = self._graph.process(image)
        self._has_spoken = self._has_spoken or results.pose_landmarks is not None
        if results.left_hand_landmarks is not None or results.right_hand_landmarks is not None:
            self._graph.process(_NOBODY)
        return results


class FaceCounter:
    """Counts people by their faces, because Holistic reports one however many there are. Built when first used."""

    def __init__(self, confidence: float = 0.5) -> None:
        self.confidence = confidence
        self._graph: Any = None

    def count(self, image: np.ndarray, pose: np.ndarray) -> int:
        """Faces in a uint8 ``(H, W, 3)`` photograph, up to about five metres away.

        What lies in the middle of a hand of ``pose`` (133, 3) is left out: fists are sometimes taken for faces.
        """
        boxes = [found.location_data.relative_bounding_box for found in self._detect(image)]
        size = np.array([image.shape[1], image.shape[0]])
        centres = [np.array([box.xmin + box.width / 2, box.ymin + box.height / 2]) * size for box in boxes]
        return sum(not _in_a_hand(centre, pose) for centre in centres)

    def _detect(self, image: np.ndarray) -> list[Any]:
        if self._graph is not None:
            return self._graph.process(image).detections or []
        with quiet_stderr():
            from mediapipe.python.solutions.face_detection import FaceDetection

            self._graph = FaceDetection(model_selection=1, min_detection_confidence=self.confidence)
            return self._graph.process(image).detections or []

    def close(self) -> None:
        """Free the graph; the next ``count`` builds another."""
        if self._graph is not None:
            self._graph.close()
        self._graph = None


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep the chatter of a native library's first calls, which no log level silences, off the terminal."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _new_graph() -> Any:
    from mediapipe.python.solutions.holistic import Holistic

    # Complexity 1 is the model inside the wheel; 0 and 2 would be downloaded.
    return Holistic(static_image_mode=True, model_complexity=1)


def _result(results: Any, shape: tuple[int, ...], visibility: float) -> PoseResult:
    pose = np.zeros((NUM_KEYPOINTS, 3), np.float32)
    if results.pose_landmarks is None:
        return PoseResult(pose, 0.0, frozenset())
    body, seen = _points(results.pose_landmarks, shape)
    parts = list(MEDIAPIPE_BODY)
    pose[BODY] = _visible(body[parts], seen[parts] >= visibility, shape)
    for place, landmark in zip(range(FEET.start, FEET.stop), MEDIAPIPE_FEET, strict=True):
        if landmark is not None:
            pose[place] = _visible(body[[landmark]], seen[[landmark]] >= visibility, shape)[0]
    if results.face_landmarks is not None:
        mesh, _ = _points(results.face_landmarks, shape)
        pose[FACE] = _visible(mesh[list(MESH468_TO_FACE68)], True, shape)
    for side, part in HAND_SLICES.items():
        landmarks = getattr(results, f"{side}_hand_landmarks")
        if landmarks is not None:
            pose[part] = _visible(_points(landmarks, shape)[0], True, shape)
    _drop_the_same_hand(pose)
    labelled = pose[BODY, 2] > 0
    score = float(seen[parts][labelled].mean()) if labelled.any() else 0.0
    return PoseResult(pose, score, found_parts(pose))


def _hands(results: Any, shape: tuple[int, ...], visibility: float) -> list[np.ndarray]:
    """Landmarks ``(21, 3)`` of the hands that are in the pose, where one that was found twice is there once."""
    found = _result(results, shape, visibility).found
    return [
        _points_in_space(getattr(results, f"{side}_hand_landmarks"), shape)
        for side in ("left", "right")
        if f"{side}_hand" in found
    ]


def _in_a_hand(point: np.ndarray, pose: np.ndarray) -> bool:
    hands = (pose[part][pose[part, 2] > 0, :2] for part in HAND_SLICES.values())
    return any(len(hand) and (point > hand.min(axis=0)).all() and (point < hand.max(axis=0)).all() for hand in hands)


def found_parts(pose: np.ndarray) -> frozenset[str]:
    """Which of ``body``, ``face``, ``left_hand``, ``right_hand`` have at least one labelled keypoint."""
    parts = {"body": BODY, "face": FACE, "left_hand": HAND_SLICES["left"], "right_hand": HAND_SLICES["right"]}
    return frozenset(name for name, part in parts.items() if (pose[part, 2] > 0).any())


def _points(landmarks: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates ``(N, 2)`` and visibility ``(N,)`` of a landmark list."""
    rows = np.array([(point.x, point.y, point.visibility) for point in landmarks.landmark], np.float32)
    return rows[:, :2] * np.array([shape[1], shape[0]], np.float32), rows[:, 2]


def _points_in_space(landmarks: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``(N, 3)``: x and y in pixels; z, which MediaPipe divides by the image's width as it does x, from the first."""
    rows = np.array([(point.x, point.y, point.z) for point in landmarks.landmark], np.float32)
    rows[:, 2] -= rows[0, 2]
    return rows * np.array([shape[1], shape[0], shape[1]], np.float32)


def _visible(points: np.ndarray, trusted: np.ndarray | bool, shape: tuple[int, ...]) -> np.ndarray:
    """``(N, 3)`` rows with v = 2 for trusted points inside the frame; the others are all zero."""
    inside = (points >= 0).all(axis=1) & (points < np.array([shape[1], shape[0]], np.float32)).all(axis=1)
    rows = np.concatenate([points, np.full((len(points), 1), 2, np.float32)], axis=1)
    keep = np.asarray(inside & trusted)
    return np.where(keep[:, None], rows, np.float32(0))


def _drop_the_same_hand(pose: np.ndarray) -> None:
    """Remove the hand that lies farther from its own wrist when both results sit on one physical hand."""
    left, right = pose[HAND_SLICES["left"]], pose[HAND_SLICES["right"]]
    both = (left[:, 2] > 0) & (right[:, 2] > 0)
    if not both.any():
        return
    size = max(np.ptp(hand[both, :2], axis=0).max() for hand in (left, right))
    if np.linalg.norm(left[both, :2] - right[both, :2], axis=1).mean() >= SAME_HAND * max(size, 1.0):
        return
    distance = {side: _wrist_gap(pose, side) for side in ("left", "right")}
    pose[HAND_SLICES[max(distance, key=lambda side: distance[side])]] = 0


def _wrist_gap(pose: np.ndarray, side: str) -> float:
    """Distance in pixels from the body's wrist to the hand's, infinite when the body's is not labelled."""
    wrist = pose[9 if side == "left" else 10]
    gap = np.linalg.norm(wrist[:2] - pose[HAND_SLICES[side]][0, :2])
    return float(gap) if wrist[2] > 0 else float("inf")

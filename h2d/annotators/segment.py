"""Hand masks from an image and its keypoints: SAM (Section IV-A), or a fallback that needs no weights.

Both see a crop around one hand, 2.5 times its box: SAM's masks have cells of 1/256 of what it is shown, which on a whole
photograph are the checkerboard edges of Fig. 3. Both end with the paper's dilation, one iteration of 5 x 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from h2d.annotators.hand_regions import distance_to_bones, hand_regions
from h2d.annotators.pose import quiet_stderr
from h2d.errors import DataError
from h2d.skeleton import FINGERS, HAND_LABELS, HAND_SLICES

CROP_SCALE = 2.5
DILATION = np.ones((5, 5), np.uint8)
MIN_INSIDE = 0.8
"""Share of a hand's keypoints that must lie in its mask."""


@dataclass(frozen=True)
class Segmentation:
    """Masks of one image.

    Args:
        hands: uint8 ``(H, W)``: 0 background, 1 right hand, 2 left hand.
        person: uint8 ``(H, W)``, 255 on the person, or None.
        scores: for each hand ``inside`` (share of its keypoints in its mask), ``area`` (mask over keypoint box) and,
            from SAM, ``iou`` (its own estimate).
    """

    hands: np.ndarray
    person: np.ndarray | None
    scores: dict[str, dict[str, float]]


class Segmenter(Protocol):
    """What finds the hands."""

    made_by: str

    def segment(self, image: np.ndarray, pose: np.ndarray) -> Segmentation:
        """Masks of every hand of ``pose`` (133, 3) in uint8 ``image`` (H, W, 3); DataError if one is not credible."""


class GrabCutSegmenter:
    """Hands without downloaded weights: MediaPipe says what is person, keypoints what is hand, colours where it ends."""

    made_by = "grabcut-1"

    def __init__(self) -> None:
        self._person = PersonSegmenter()

    def segment(self, image: np.ndarray, pose: np.ndarray) -> Segmentation:
        """See ``Segmenter``."""
        person = self._person.probability(image)
        masks = {side: _grabcut(image, points, person) for side, points in hands_of(pose).items()}
        return finish(masks, pose, (person > 0.5).astype(np.uint8) * 255)


class PersonSegmenter:
    """MediaPipe's selfie segmentation, whose weights are in its wheel. Built when first used."""

    def __init__(self) -> None:
        self._graph: Any = None

    def probability(self, image: np.ndarray) -> np.ndarray:
        """float32 ``(H, W)`` in [0, 1]: how surely each pixel of ``(H, W, 3)`` shows a person."""
        if self._graph is not None:
            return self._graph.process(image).segmentation_mask
        with quiet_stderr():
            from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

            self._graph = SelfieSegmentation(model_selection=0)
            return self._graph.process(image).segmentation_mask


def hands_of(pose: np.ndarray) -> dict[str, np.ndarray]:
    """The 21 points ``(21, 2)`` of every hand that has a labelled keypoint, unlabelled ones moved to a neighbour."""
    hands = {}
    for side, part in HAND_SLICES.items():
        points, labelled = pose[part, :2].astype(np.float64), pose[part, 2] > 0
        if labelled.any():
            for chain in FINGERS:
                for before, here in zip(chain[:-1], chain[1:], strict=True):
                    if not labelled[here]:
                        points[here] = points[before] if labelled[before] else points[labelled].mean(axis=0)
            if not labelled[0]:
                points[0] = points[labelled].mean(axis=0)
            hands[side] = points
    return hands


def finish(masks: dict[str, np.ndarray], pose: np.ndarray, person: np.ndarray | None) -> Segmentation:
    """Clean, dilate (5 x 5, Section IV-A), judge and join the boolean masks ``(H, W)`` of the hands.

    Raises:
        DataError: a mask is empty or misses too many of its hand's keypoints.
    """
    hands = hands_of(pose)
    cleaned = {side: dilate_5x5(_with_keypoints(mask, hands[side])) for side, mask in masks.items()}
    joined = _join(cleaned, hands)
    return Segmentation(joined, person, judge(joined, pose))


def judge(labels: np.ndarray, pose: np.ndarray) -> dict[str, dict[str, float]]:
    """Scores of the masks of a label image ``(H, W)`` against the keypoints of its hands.

    Raises:
        DataError: a hand's mask misses too many of its keypoints, or a hand has no mask.
    """
    scores = {}
    for side in hands_of(pose):
        scores[side] = _scores(labels, HAND_LABELS[side], pose[HAND_SLICES[side]])
        if scores[side]["inside"] < MIN_INSIDE:
            raise DataError(f"hand mask misses keypoints: {side} hand, {scores[side]['inside']:.2f} inside")
    return scores


def dilate_5x5(mask: np.ndarray) -> np.ndarray:
    """One dilation of a boolean mask with a 5 x 5 square."""
    import cv2

    return cv2.dilate(mask.astype(np.uint8), DILATION) > 0


def _grabcut(image: np.ndarray, points: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Boolean mask ``(H, W)`` of one hand: colours decide between what the keypoints allow and what they demand."""
    import cv2

    window = _window(points, image.shape[:2], CROP_SCALE)
    crop = image[window]
    regions = hand_regions(points - (window[1].start, window[0].start), crop.shape[:2])
    labels = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
    labels[regions.possible & (person[window] > 0.1)] = cv2.GC_PR_BGD
    labels[regions.likely & (person[window] > 0.1)] = cv2.GC_PR_FGD
    labels[regions.sure] = cv2.GC_FGD
    mask = np.zeros(image.shape[:2], bool)
    cv2.setRNGSeed(0)
    cv2.grabCut(crop, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    mask[window] = (cv2.erode(found, DILATION) > 0) | regions.bones  # the dilation that follows then only mends it
    return mask


def _window(points: np.ndarray, shape: tuple[int, int], scale: float) -> tuple[slice, slice]:
    """Rows and columns of a square around a hand, ``scale`` times its longer side, clipped at the frame."""
    centre, half = (points.min(axis=0) + points.max(axis=0)) / 2, scale / 2 * max(np.ptp(points, axis=0).max(), 8)
    low = np.floor(np.maximum(centre - half, 0)).astype(int)
    high = np.ceil(np.minimum(centre + half, shape[::-1])).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _with_keypoints(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The connected parts of a mask that hold at least one keypoint."""
    import cv2

    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    held = np.unique(parts[_places(points, mask.shape)])
    return np.isin(parts, held[held > 0])


def _scores(labels: np.ndarray, label: int, hand: np.ndarray) -> dict[str, float]:
    """Keypoints count as inside any hand: where two hands overlap, one hides points of the other."""
    points = hand[hand[:, 2] > 0, :2]
    box = np.prod(np.maximum(np.ptp(points, axis=0), 1))
    inside = labels[_places(points, labels.shape)] > 0
    return {"inside": float(inside.mean()), "area": float((labels == label).sum() / box)}


def _join(masks: dict[str, np.ndarray], hands: dict[str, np.ndarray]) -> np.ndarray:
    """One label image; where both hands claim a pixel, the one with the nearer bone gets it."""
    shape = next(iter(masks.values())).shape
    joined = np.zeros(shape, np.uint8)
    for side, mask in masks.items():
        joined[mask] = HAND_LABELS[side]
    if len(masks) == 2:
        both = masks["right"] & masks["left"]
        if both.any():
            right, left = (distance_to_bones(hands[side], shape) for side in ("right", "left"))
            joined[both] = np.where(right <= left, HAND_LABELS["right"], HAND_LABELS["left"])[both]
    return joined


def _places(points: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that hold the points, clipped at the frame."""
    x, y = np.clip(np.floor(points).astype(int), 0, (shape[1] - 1, shape[0] - 1)).T
    return y, x

"""What SAM is asked about a hand: a picture of it, points on it, points beside it, and a box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from h2d.annotators.hand_masks import hands_of, window
from h2d.annotators.hand_regions import hand_length
from h2d.skeleton import BODY_NAMES

SAM_CROP = 2.5
"""Side of SAM's crop over the longer side of the hand's keypoint box."""


@dataclass(frozen=True)
class Prompt:
    """A question about one hand.

    Args:
        place: rows and columns of the image that it is about.
        picture: what SAM sees of them, uint8 ``(h, w, 3)``, the longer side as long as SAM wants it.
        points: ``(N, 2)``, x and y in pixels of the picture.
        labels: ``(N,)``, 1 for a point on the hand, 0 for one beside it.
        box: ``(4,)``, x0, y0, x1, y1 around the hand in pixels of the picture.
    """

    place: tuple[slice, slice]
    picture: np.ndarray
    points: np.ndarray
    labels: np.ndarray
    box: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the place in the image."""
        rows, columns = self.place
        return int(rows.stop - rows.start), int(columns.stop - columns.start)


def hand_prompts(image: np.ndarray, pose: np.ndarray, side: int) -> dict[str, Prompt]:
    """A prompt for every hand of ``pose`` (133, 3) in uint8 ``image`` (H, W, 3), by side of the body.

    Args:
        side: length of the longer side of the pictures.
    """
    hands = hands_of(pose)
    return {name: _prompt(image, points, negatives(name, pose, hands), side) for name, points in hands.items()}


def negatives(side: str, pose: np.ndarray, hands: dict[str, np.ndarray]) -> np.ndarray:
    """Points ``(N, 2)`` that are not on a hand: joints of the other hand away from it, and one on its own forearm.

    Where two hands overlap no point of the other is used, because it may well lie on this one.
    """
    points = hands[side]
    length = hand_length(points)
    candidates = [_forearm_point(side, pose, points, length)]
    other = hands.get("left" if side == "right" else "right")
    if other is not None:
        gaps = np.linalg.norm(other[:, None] - points[None], axis=2).min(axis=1)
        low, high = points.min(axis=0), points.max(axis=0)
        overlapping = ((other >= low) & (other <= high)).all(axis=1)
        candidates += list(other[(gaps > 0.15 * length) & ~overlapping])
    return np.array(candidates)


def _prompt(image: np.ndarray, points: np.ndarray, outside: np.ndarray, side: int) -> Prompt:
    place = window(points, image.shape[:2], SAM_CROP)
    corner = np.array([place[1].start, place[0].start])
    crop = image[place]
    inside, outside = points - corner, outside - corner
    outside = outside[(outside >= 0).all(axis=1) & (outside < crop.shape[1::-1]).all(axis=1)]
    labels = np.r_[np.ones(len(inside), int), np.zeros(len(outside), int)]
    picture = enlarged(crop, side)
    scale = np.array(picture.shape[1::-1]) / crop.shape[1::-1]
    box = _box(inside, crop.shape[:2]) * np.tile(scale, 2)
    return Prompt(place, picture, np.concatenate([inside, outside]) * scale, labels, box)


def enlarged(crop: np.ndarray, side: int) -> np.ndarray:
    """The crop with its longer side at ``side``, resized as SAM's own predictor does."""
    scale = side / max(crop.shape[:2])
    height, width = (max(1, int(length * scale + 0.5)) for length in crop.shape[:2])
    return np.array(Image.fromarray(crop).resize((width, height), Image.Resampling.BILINEAR))


def _forearm_point(side: str, pose: np.ndarray, points: np.ndarray, length: float) -> np.ndarray:
    """A point on the forearm: 40 % of the way to the elbow, or straight on behind the wrist when that is not seen."""
    elbow = pose[BODY_NAMES.index(f"{side}_elbow")]
    if elbow[2] > 0 and np.linalg.norm(elbow[:2] - points[0]) > length:
        return points[0] + 0.4 * (elbow[:2] - points[0])
    axis = points[0] - points[[5, 9, 13, 17]].mean(axis=0)
    return points[0] + 0.8 * length * axis / max(float(np.linalg.norm(axis)), 1e-6)


def _box(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """x0, y0, x1, y1 around the points with a margin of 15 %, within the crop."""
    margin = 0.15 * np.ptp(points, axis=0).max()
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    return np.r_[np.maximum(low, 0), np.minimum(high, (shape[1] - 1, shape[0] - 1))]

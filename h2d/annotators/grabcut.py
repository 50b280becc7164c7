"""A hand's mask without weights: keypoints say what is hand and what cannot be, colours decide in between."""

from __future__ import annotations

import numpy as np

from h2d.annotators.hand_masks import DILATION, window
from h2d.annotators.hand_regions import hand_regions

CROP_SCALE = 2.5
"""Side of the crop over the longer side of the keypoint box."""
CUT_SIDE = 320
"""Larger crops are reduced to this: the time of GrabCut grows with the pixels."""
PERSON = 0.1
"""Where the probability of a person is below this, there is no hand."""


def cut_hand(image: np.ndarray, points: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Mask of one hand, a little too thin for the dilation that follows.

    Args:
        image: uint8 ``(H, W, 3)``.
        points: the hand's keypoints ``(21, 2)`` in its pixels.
        person: float ``(H, W)`` in [0, 1], probability of a person.

    Returns:
        boolean ``(H, W)``.
    """
    import cv2

    place = window(points, image.shape[:2], CROP_SCALE)
    crop, likely_person = image[place], person[place] > PERSON
    regions = hand_regions(points - (place[1].start, place[0].start), crop.shape[:2])
    states = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
    states[regions.possible & likely_person] = cv2.GC_PR_BGD
    states[regions.likely & likely_person] = cv2.GC_PR_FGD
    states[regions.sure] = cv2.GC_FGD
    found = _cut(crop, states).astype(np.uint8)
    mask = np.zeros(image.shape[:2], bool)
    mask[place] = (cv2.erode(found, DILATION) > 0) | regions.bones
    return mask


def _cut(crop: np.ndarray, states: np.ndarray) -> np.ndarray:
    """GrabCut on at most ``CUT_SIDE`` pixels a side; boolean ``(H, W)``."""
    import cv2

    height, width = states.shape
    scale = min(1.0, CUT_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    states = cv2.resize(states, size, interpolation=cv2.INTER_NEAREST)
    hand = np.isin(states, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if hand.any() and not hand.all():  # otherwise one of its two colour models has no sample
        cv2.setRNGSeed(0)
        cv2.grabCut(small, states, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
        hand = np.isin(states, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return cv2.resize(hand.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5

"""Masks of Re:InterHand, of which no public document says where they are and what their values mean."""

from __future__ import annotations

from string import Formatter

import numpy as np

from h2d.annotators.hand_masks import join, places
from h2d.errors import ConfigError, DataError
from h2d.skeleton import HAND_LABELS, HAND_SLICES

FIELDS = ("envmap", "camera", "frame")
MIN_INSIDE = 0.9
"""Share of the keypoints inside the frame that must lie in the mask of a hand."""


def mask_path(template: str, envmap: str, camera: str, frame: int) -> str:
    """The path of a mask below its capture, a template with ``{envmap}``, ``{camera}`` and ``{frame}``.

    Raises:
        ConfigError: the template has another field, or one that cannot be filled.
    """
    hint = "for example mask_path=Mugsy_cameras/{envmap}/masks/{camera}/{frame:06d}.png"
    try:
        fields = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        if unknown := sorted(fields - set(FIELDS)):
            raise ConfigError(f"mask_path={template}: there is no field {unknown[0]!r}", hint)
        return template.format(envmap=envmap, camera=camera, frame=frame)
    except ValueError as error:
        raise ConfigError(f"mask_path={template}: {error}", hint) from error


def split_hands(mask: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Label image uint8 ``(H, W)`` of a boolean mask of all hands: each pixel goes to the hand with the nearer bone.

    Args:
        mask: boolean ``(H, W)``.
        pose: float32 ``(133, 3)``; hands without a labelled keypoint get nothing.
    """
    seen = [side for side, part in HAND_SLICES.items() if (pose[part, 2] > 0).any()]
    return join(dict.fromkeys(seen, mask), pose) if seen else np.zeros(mask.shape, np.uint8)


def named_hands(values: np.ndarray, right: int, left: int) -> np.ndarray:
    """Label image uint8 ``(H, W)`` of a mask ``(H, W)`` in which each hand has its own value."""
    hands = np.zeros(values.shape, np.uint8)
    hands[values == right] = HAND_LABELS["right"]
    hands[values == left] = HAND_LABELS["left"]
    return hands


def check_inside(hands: np.ndarray, pose: np.ndarray) -> None:
    """See that the mask belongs to the joints.

    Args:
        hands: label image ``(H, W)``.
        pose: float32 ``(133, 3)`` in its pixels.

    Raises:
        DataError: fewer than ``MIN_INSIDE`` of the keypoints in the frame lie on a hand.
    """
    points = np.concatenate([pose[part][pose[part, 2] > 0, :2] for part in HAND_SLICES.values()])
    share = float((hands[places(points, hands.shape)] > 0).mean()) if len(points) else 1.0
    if share < MIN_INSIDE:
        raise DataError(f"mask misses the joints: {share:.2f} inside")

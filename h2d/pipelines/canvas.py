"""From generated hands to the canvas of stage II (Section III-C)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from h2d.masks import CropBox, hand_boxes, paste


class HandPlace(NamedTuple):
    """A square of the canvas, the hands it is for (``("right",)``, ``("left",)`` or both) and whose they are."""

    box: CropBox
    names: tuple[str, ...]
    person: int = 0


class PlacedHand(NamedTuple):
    """A crop of stage I: its place, its ``image`` ``(3, S, S)`` in [-1, 1] and its ``mask`` ``(1, S, S)`` in [0, 1]."""

    place: HandPlace
    image: Tensor
    mask: Tensor


class Canvas(NamedTuple):
    """``image`` ``(3, H, W)`` in [-1, 1], ``hand_mask`` and ``bbox_mask`` ``(1, H, W)`` in {0, 1}."""

    image: Tensor
    hand_mask: Tensor
    bbox_mask: Tensor


def hand_places(people: np.ndarray, margin: float) -> list[HandPlace]:
    """The squares in which stage I makes the hands of people ``(P, 133, 3)``, right hand first.

    Args:
        people: in pixels of the canvas.
        margin: see :func:`h2d.masks.hand_boxes`.
    """
    return [
        HandPlace(box, names, person) for person, pose in enumerate(people) for box, names in hand_boxes(pose, margin)
    ]


def compose_canvas(hands: list[PlacedHand], height: int, width: int, with_background: bool = False) -> Canvas:
    """Cut the hands out by their masks and put them at their places on black.

    The smaller box counts as the farther hand and is pasted first.

    Args:
        hands: of one image; none gives an empty canvas.
        height: of the canvas.
        width: of the canvas.
        with_background: also keep what lies around the hands inside their squares, for "bbox" blending.
    """
    image, hand_mask, bbox_mask = torch.full((3, height, width), -1.0), *torch.zeros(2, 1, height, width)
    far_to_near = sorted(hands, key=lambda hand: hand.place.box.side)
    for place, crop, _ in far_to_near:
        if with_background:
            image = paste(image, crop, place.box)
        bbox_mask = paste(bbox_mask, torch.ones_like(crop[:1]), place.box)
    for place, crop, mask in far_to_near:
        binary = (mask > 0.5).to(crop)
        image = paste(image, crop, place.box, binary)
        hand_mask = paste(hand_mask, torch.ones_like(binary), place.box, binary)
    return Canvas(image, hand_mask, bbox_mask)


def keep_pixels(canvas: Canvas, image: Tensor, keep: Tensor) -> Canvas:
    """Put the pixels of a given ``image`` ``(3, H, W)`` in [-1, 1] where ``keep`` ``(1, H, W)`` is 1 over the hands."""
    return Canvas(
        torch.where(keep > 0, image, canvas.image),
        torch.maximum(canvas.hand_mask, keep),
        torch.maximum(canvas.bbox_mask, keep),
    )

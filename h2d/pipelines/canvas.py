"""From generated hands to the canvas of stage II (Section III-C)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from h2d.masks import CropBox, paste


class PlacedHand(NamedTuple):
    """A crop of stage I and its place.

    ``names`` says which hands it shows, ``image`` is ``(3, S, S)`` in [-1, 1], ``mask`` ``(1, S, S)`` in [0, 1].
    """

    box: CropBox
    names: tuple[str, ...]
    image: Tensor
    mask: Tensor


class Canvas(NamedTuple):
    """``image`` ``(3, S, S)`` in [-1, 1], ``hand_mask`` and ``bbox_mask`` ``(1, S, S)`` in {0, 1}."""

    image: Tensor
    hand_mask: Tensor
    bbox_mask: Tensor


def compose_canvas(hands: list[PlacedHand], size: int, with_background: bool = False) -> Canvas:
    """Cut the hands out by their masks and put them at their places on black.

    The smaller box counts as the farther hand and is pasted first.

    Args:
        hands: of one image; none gives an empty canvas.
        size: side S of the canvas.
        with_background: also keep what lies around the hands inside their squares, for "bbox" blending.
    """
    image, hand_mask, bbox_mask = torch.full((3, size, size), -1.0), *torch.zeros(2, 1, size, size)
    far_to_near = sorted(hands, key=lambda hand: hand.box.side)
    for box, _, crop, _ in far_to_near:
        if with_background:
            image = paste(image, crop, box)
        bbox_mask = paste(bbox_mask, torch.ones_like(crop[:1]), box)
    for box, _, crop, mask in far_to_near:
        binary = (mask > 0.5).to(crop)
        image = paste(image, crop, box, binary)
        hand_mask = paste(hand_mask, torch.ones_like(binary), box, binary)
    return Canvas(image, hand_mask, bbox_mask)

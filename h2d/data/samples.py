"""From a sample to the tensors that a stage trains on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from h2d.data.augment import Augment
from h2d.data.schema import Sample
from h2d.data.square import square_sample
from h2d.errors import DataError
from h2d.masks import CropBox, crop, hand_boxes, only_hands, shrink_maps
from h2d.rendering import Wrist, draw_openpose, finger_heatmaps
from h2d.skeleton import HAND_LABELS


def hand_example(
    sample: Sample,
    *,
    size: int,
    margin: float,
    sigma_px: float,
    wrist: Wrist,
    latent_size: int,
    rng: np.random.Generator | None,
    augment: Augment | None,
    caption_prefix: str = "",
) -> dict[str, Any]:
    """A hand as stage I learns it (Sections III-B and IV-A).

    Hands whose boxes intersect share the crop; of two that do not, ``rng`` picks one. The heat maps and the mask
    show the hands of the crop's box, not what else happens to reach into the picture.

    Args:
        sample: with at least one hand.
        size: side S of the crop in pixels.
        margin: side of the box in lengths of the hand's keypoint box.
        sigma_px: standard deviation of the keypoints in pixels of the crop.
        wrist: finger channels that show the wrist.
        latent_size: side h of the heat maps.
        rng: None takes the first box and changes no colours.
        augment: colour changes, if any.
        caption_prefix: put in front of the caption.

    Returns:
        ``image`` (3,S,S) in [-1, 1], ``heatmaps`` (10,h,h) in [0, 1], ``hand_mask`` (1,S,S) in {0, 1}, ``caption``,
        ``key``.

    Raises:
        DataError: no hand is labelled.
    """
    box, names = choose_box(sample, margin, rng)
    image = to_signed(crop(_channels_first(sample.image), box, size))
    if augment is not None and rng is not None:
        image = augment(image, rng)
    maps = finger_heatmaps(only_hands(box.to_crop(sample.pose, size), names), size, sigma_px, wrist)
    return {
        "image": image,
        "heatmaps": shrink_maps(torch.from_numpy(maps)[None], latent_size)[0],
        "hand_mask": crop_mask(sample.hands, names, box, size),
        "caption": caption_prefix + sample.caption,
        "key": sample.key,
    }


def choose_box(sample: Sample, margin: float, rng: np.random.Generator | None) -> tuple[CropBox, tuple[str, ...]]:
    """One of the boxes around the hands of a sample and the hands it is for; the first one without ``rng``."""
    boxes = hand_boxes(sample.pose, margin)
    if not boxes:
        raise DataError(f"sample {sample.key} has no labelled hand", "prepare the data with a filter on hands")
    return boxes[0 if rng is None else int(rng.integers(len(boxes)))]


def crop_mask(hands: np.ndarray, names: tuple[str, ...], box: CropBox, size: int) -> Tensor:
    """Mask ``(1, size, size)`` in {0, 1} of the named hands inside a box of a label image ``(H, W)``."""
    inside = np.isin(hands, [HAND_LABELS[name] for name in names])
    return (crop(torch.from_numpy(inside.astype(np.uint8) * 255)[None], box, size) > 127).float()


def outpaint_example(sample: Sample, *, size: int) -> dict[str, Any]:
    """A person as stage II learns it (Section III-C).

    Returns:
        ``image`` (3,S,S) in [-1, 1], ``hint`` (4,S,S) in [0, 1] (skeleton RGB, hand mask), ``hand_mask`` (1,S,S) in
        {0, 1}, ``canvas`` (3,S,S) in [-1, 1] (the pixels of the hands on black), ``caption``, ``key``.
    """
    square = square_sample(sample, size)
    image = to_signed(_channels_first(square.image))
    hand_mask = torch.from_numpy(square.hands > 0)[None].float()
    skeleton = _channels_first(draw_openpose(square.pose, size)).float() / 255
    return {
        "image": image,
        "hint": torch.cat([skeleton, hand_mask]),
        "hand_mask": hand_mask,
        "canvas": torch.where(hand_mask > 0, image, -1.0),
        "caption": sample.caption,
        "key": sample.key,
    }


def to_signed(image: Tensor) -> Tensor:
    """uint8 image as floats in [-1, 1]."""
    return image.float().div_(127.5).sub_(1)


def _channels_first(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)

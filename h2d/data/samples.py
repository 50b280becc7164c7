"""From a sample to the tensors that a stage trains on.

What a loader does and hands over is bytes: pictures in 8 bits, small maps, the drawn colour changes. :func:`as_numbers`
makes of them what a network sees, for a whole batch and on its device, where the loader would take longer for it than
for everything else together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from h2d.data.augment import Augment, change_colours
from h2d.data.schema import Sample
from h2d.data.square import square_sample
from h2d.errors import DataError
from h2d.masks import CropBox, crop, cut, hand_boxes, only_hands, resize
from h2d.rendering import Wrist, draw_openpose, small_heatmaps
from h2d.skeleton import HAND_LABELS


def hand_bytes(
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
        uint8 ``image`` (S,S,3) and ``hand_mask`` (1,S,S) in {0, 1}, float32 ``heatmaps`` (10,h,h) in [0, 1],
        ``caption``, ``key``; with colour changes also ``colours`` (5,), see :meth:`h2d.data.augment.Augment.draw`.

    Raises:
        DataError: no hand is labelled.
    """
    box, names = choose_box(sample, margin, rng)
    pose = only_hands(box.to_crop(sample.pose, size), names)
    example: dict[str, Any] = {
        "image": crop(torch.from_numpy(sample.image).permute(2, 0, 1), box, size).permute(1, 2, 0),
        "heatmaps": torch.from_numpy(small_heatmaps(pose, size, latent_size, sigma_px, wrist)),
        "hand_mask": crop_mask(sample.hands, names, box, size),
        "caption": caption_prefix + sample.caption,
        "key": sample.key,
    }
    return example if augment is None or rng is None else example | {"colours": augment.draw(rng)}


def hand_example(sample: Sample, **options: Any) -> dict[str, Any]:
    """A hand in numbers; arguments and errors are those of :func:`hand_bytes`.

    Returns:
        ``image`` (3,S,S) in [-1, 1], ``heatmaps`` (10,h,h) in [0, 1], ``hand_mask`` (1,S,S) in {0, 1}, ``caption``,
        ``key``.
    """
    return as_numbers(hand_bytes(sample, **options))


def choose_box(sample: Sample, margin: float, rng: np.random.Generator | None) -> tuple[CropBox, tuple[str, ...]]:
    """One of the boxes around the hands of a sample and the hands it is for; the first one without ``rng``."""
    boxes = hand_boxes(sample.pose, margin)
    if not boxes:
        raise DataError(f"sample {sample.key} has no labelled hand", "prepare the data with a filter on hands")
    return boxes[0 if rng is None else int(rng.integers(len(boxes)))]


def crop_mask(hands: np.ndarray, names: tuple[str, ...], box: CropBox, size: int) -> Tensor:
    """uint8 mask ``(1, size, size)`` in {0, 1} of the named hands inside a box of a label image ``(H, W)``."""
    labels = cut(torch.from_numpy(hands)[None], box)
    covered = torch.stack([labels == HAND_LABELS[name] for name in names]).any(dim=0)
    return (resize(covered.byte() * 255, size) > 127).view(torch.uint8)


def outpaint_bytes(sample: Sample, *, size: int) -> dict[str, Any]:
    """A person as stage II learns it (Section III-C).

    Returns:
        uint8 ``image`` (S,S,3), ``skeleton`` (S,S,3) and ``hand_mask`` (1,S,S) in {0, 1}; the ``pose`` (133,3) of the
        skeleton in pixels; ``caption``, ``key``.
    """
    square = square_sample(sample, size)
    return {
        "image": torch.from_numpy(square.image),
        "skeleton": torch.from_numpy(draw_openpose(square.pose, size)),
        "hand_mask": torch.from_numpy((square.hands > 0).view(np.uint8))[None],
        "pose": torch.from_numpy(square.pose),
        "caption": sample.caption,
        "key": sample.key,
    }


def outpaint_example(sample: Sample, *, size: int) -> dict[str, Any]:
    """A person in numbers.

    Returns:
        ``image`` (3,S,S) in [-1, 1], ``hint`` (4,S,S) in [0, 1] (skeleton RGB, hand mask), ``hand_mask`` (1,S,S) in
        {0, 1}, ``canvas`` (3,S,S) in [-1, 1] (the pixels of the hands on black), ``pose`` (133,3), ``caption``,
        ``key``.
    """
    return as_numbers(outpaint_bytes(sample, size=size))


def as_numbers(example: Mapping[str, Any]) -> dict[str, Any]:
    """What a network sees of an example or of a batch of them, on its device.

    Args:
        example: as :func:`hand_bytes` or :func:`outpaint_bytes` made it; an ``image`` that is no bytes stays as it is,
            and so does a ``canvas`` that is there.
    """
    numbers = dict(example)
    image, colours, skeleton = numbers["image"], numbers.pop("colours", None), numbers.pop("skeleton", None)
    if image.dtype == torch.uint8:
        image = numbers["image"] = to_signed(image)
    if colours is not None:
        image = numbers["image"] = change_colours(image, colours)
    if "hand_mask" in numbers:
        numbers["hand_mask"] = numbers["hand_mask"].float()
    if skeleton is not None:
        hand_mask = numbers["hand_mask"]
        numbers["hint"] = torch.cat([_channels_first(skeleton) / 255, hand_mask], dim=-3)
        if "canvas" not in numbers:
            numbers["canvas"] = torch.where(hand_mask > 0, image, -1.0)
    return numbers


def to_signed(image: Tensor) -> Tensor:
    """uint8 image ``(..., S, S, 3)`` as floats ``(..., 3, S, S)`` in [-1, 1]."""
    return _channels_first(image).div_(127.5).sub_(1)


def _channels_first(image: Tensor) -> Tensor:
    return image.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)

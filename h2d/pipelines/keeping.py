"""Pixels of a given picture that stay as they are, and hands whose layout is given."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from torch import Tensor

from h2d.masks import only_hands, present_hands
from h2d.pipelines.canvas import Canvas, keep_pixels
from h2d.pipelines.inputs import check_shape
from h2d.skeleton import HAND_SLICES


class Kept(NamedTuple):
    """What one image keeps of a picture: ``image`` ``(3, H, W)`` in [-1, 1] where ``mask`` ``(1, H, W)`` is 1."""

    image: Tensor
    mask: Tensor

    @classmethod
    def of(
        cls,
        image: PipelineImageInput | None,
        mask: PipelineImageInput | None,
        count: int,
        height: int,
        width: int,
    ) -> list[Kept]:
        """The arguments ``image`` and ``keep_mask`` of a pipeline, for each of ``count`` images; None keeps nothing.

        Raises:
            ValueError: one is given without the other, or they are not of the canvas' size or not ``count``.
        """
        if (image is None) != (mask is None):
            raise ValueError("image and keep_mask go together: give both or neither")
        if image is None or mask is None:
            return [cls(torch.full((3, height, width), -1.0), torch.zeros(1, height, width))] * count
        pictures = _tensor("image", VaeImageProcessor(do_resize=False), image, 3, count, height, width)
        grey = VaeImageProcessor(do_resize=False, do_normalize=False, do_binarize=True, do_convert_grayscale=True)
        masks = _tensor("keep_mask", grey, mask, 1, count, height, width)
        return [cls(*pair) for pair in zip(pictures, masks, strict=True)]

    def without_kept(self, people: np.ndarray) -> np.ndarray:
        """People ``(P, 133, 3)`` without the hands that are kept: those with most of their keypoints in the mask."""
        made = [
            only_hands(pose, tuple(hand for hand in present_hands(pose) if self._share(pose, hand) <= 0.5))
            for pose in people
        ]
        return np.stack(made) if made else people

    def onto(self, canvas: Canvas) -> Canvas:
        """The canvas with the kept pixels on it."""
        return keep_pixels(canvas, self.image, self.mask)

    def _share(self, pose: np.ndarray, hand: str) -> float:
        """Of the labelled keypoints of a hand, how many lie in the mask; the frame ends it."""
        points = pose[HAND_SLICES[hand]]
        x, y = np.floor(points[points[:, 2] > 0, :2]).astype(int).T
        height, width = self.mask.shape[-2:]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return float((self.mask[0].numpy()[y[inside], x[inside]] > 0).sum() / len(x))


def check_labels(labels: np.ndarray | None, count: int, height: int, width: int) -> list[np.ndarray] | None:
    """The argument ``hand_labels`` of a pipeline for each of ``count`` images.

    Raises:
        ValueError: they are not uint8 ``(H, W)`` or ``(count, H, W)``.
    """
    if labels is None:
        return None
    each = np.repeat(labels[None], count, axis=0) if labels.ndim == 2 else labels
    if each.dtype != np.uint8 or each.shape != (count, height, width):
        raise ValueError(
            f"hand_labels must be uint8 ({height}, {width}) or ({count}, {height}, {width}), "
            f"got {labels.dtype} {labels.shape}"
        )
    return list(each)


def _tensor(
    name: str,
    processor: VaeImageProcessor,
    given: PipelineImageInput,
    channels: int,
    count: int,
    height: int,
    width: int,
) -> Tensor:
    """A picture or several, in one of the forms that diffusers takes, as float32 ``(count, channels, H, W)``."""
    tensor = processor.preprocess(given).float().cpu()
    if len(tensor) == 1 and count > 1:
        tensor = tensor.expand(count, -1, -1, -1)
    check_shape(name, tensor, (count, channels, height, width))
    return tensor

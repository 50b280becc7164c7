"""Pixels of a given picture that stay as they are, and hands whose layout is given."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.image_processor import PipelineImageInput
from PIL import Image
from torch import Tensor

from h2d.masks import only_hands, present_hands
from h2d.pipelines.canvas import Canvas, keep_pixels
from h2d.pipelines.inputs import check_shape
from h2d.skeleton import HAND_LABELS, HAND_SLICES


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
        pictures = 2 * _tensor("image", image, 3, count, height, width) - 1
        masks = _tensor("keep_mask", mask, 1, count, height, width)
        if not bool(((masks == 0) | (masks == 1)).all()):
            raise ValueError("keep_mask must be black and white: uint8 0 and 255, or 0 and 1 of another type")
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
    if not isinstance(labels, np.ndarray):
        raise ValueError(f"hand_labels must be a NumPy array, got a {type(labels).__name__}")
    each = np.repeat(labels[None], count, axis=0) if labels.ndim == 2 else labels
    if each.dtype != np.uint8 or each.shape != (count, height, width):
        raise ValueError(
            f"hand_labels must be uint8 ({height}, {width}) or ({count}, {height}, {width}), "
            f"got {labels.dtype} {labels.shape}"
        )
    if each.max(initial=0) > max(HAND_LABELS.values()):
        raise ValueError(f"hand_labels must be 0, 1 (right) and 2 (left), got {each.max()}")
    return list(each)


def _tensor(name: str, given: PipelineImageInput, channels: int, count: int, height: int, width: int) -> Tensor:
    """A picture or several, in one of the forms that diffusers takes, as float32 ``(count, channels, H, W)``, 0..1."""
    each = given if isinstance(given, list | tuple) else [given]
    if not each:
        raise ValueError(f"{name} must be a picture or a list of {count}, got an empty list")
    tensor = torch.cat([_one(name, one, channels) for one in each])
    if len(tensor) == 1 and count > 1:
        tensor = tensor.expand(count, -1, -1, -1)
    check_shape(name, tensor, (count, channels, height, width))
    if not bool(((tensor >= 0) & (tensor <= 1)).all()):
        raise ValueError(f"{name} must be uint8, or numbers in [0, 1], got others")
    return tensor


def _one(name: str, given: Any, channels: int) -> Tensor:
    """A PIL image, an array ``([B,] H, W[, C])`` or a tensor ``([B,] C, H, W)`` as ``(B, C, H, W)`` in 0..1."""
    if isinstance(given, Image.Image):
        given = np.array(given.convert("RGB" if channels == 3 else "L"))
    if isinstance(given, np.ndarray):
        given = given[..., None] if channels == 1 and given.shape[-1:] != (1,) else given
        given = torch.from_numpy(np.ascontiguousarray(given)).movedim(-1, -3)
    if not isinstance(given, Tensor):
        raise ValueError(f"{name} must be a PIL image, an array or a tensor, got a {type(given).__name__}")
    given = given[None] if given.ndim == 3 else given
    return given.cpu().float() / 255 if given.dtype == torch.uint8 else given.cpu().float()

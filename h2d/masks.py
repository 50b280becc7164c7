"""Masks, blending and the geometry between a hand crop and the canvas.

Mask polarity, stated here for the whole project: **1 = hand = keep**, 0 = background = paint. Masks are floats in
{0, 1}, images are floats in [-1, 1]. Pixel coordinates are continuous: pixel (i, j) covers [j, j+1) x [i, i+1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from h2d.skeleton import HAND_SLICES

BLENDS = ("noised", "clean")
"""How the canvas enters Eq. 11: noised to the level of the latents it meets, or clean as the equation is printed."""


# --- hands of a pose ------------------------------------------------------------------------------------------------
def present_hands(pose: np.ndarray) -> list[str]:
    """Hands of a pose ``(133, 3)`` with at least one labelled keypoint, a subset of ``["right", "left"]`` in order."""
    return [hand for hand, part in HAND_SLICES.items() if (pose[part, 2] > 0).any()]


def only_hands(pose: np.ndarray, hands: tuple[str, ...]) -> np.ndarray:
    """Copy of a pose in which the keypoints of every other hand count as not labelled."""
    pose = pose.copy()
    for hand, part in HAND_SLICES.items():
        if hand not in hands:
            pose[part, 2] = 0
    return pose


def hand_extent(pose: np.ndarray, hands: tuple[str, ...]) -> tuple[float, float, float, float]:
    """Tight box ``x0, y0, x1, y1`` in pixels around the labelled keypoints of the named hands."""
    points = np.concatenate([pose[HAND_SLICES[hand]] for hand in hands])
    points = points[points[:, 2] > 0, :2]
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


@dataclass(frozen=True)
class CropBox:
    """Integer square in image pixels; it may leave the image.

    Args:
        x: left edge.
        y: top edge.
        side: length of an edge, at least 1.
    """

    x: int
    y: int
    side: int

    def to_crop(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points ``(..., 2 or 3)`` from image pixels to pixels of the ``size`` x ``size`` crop; v is kept."""
        moved = points.copy()
        moved[..., :2] = (points[..., :2] - (self.x, self.y)) * (size / self.side)
        return moved

    def to_image(self, points: np.ndarray, size: int) -> np.ndarray:
        """Inverse of :meth:`to_crop`."""
        moved = points.copy()
        moved[..., :2] = points[..., :2] * (self.side / size) + (self.x, self.y)
        return moved


def hand_boxes(pose: np.ndarray, margin: float = 1.6, min_side: int = 16) -> list[tuple[CropBox, tuple[str, ...]]]:
    """Squares to crop around the hands of a pose, each with the hands it is for (Section IV-A).

    Two hands whose tight keypoint boxes intersect share one box; otherwise each has its own, right first.

    Args:
        pose: ``(133, 3)`` in pixels.
        margin: side of the square as a multiple of the longer side of the tight keypoint box.
        min_side: smallest side in pixels.
    """
    hands = present_hands(pose)
    groups = [tuple(hands)] if len(hands) == 2 and _hands_interact(pose) else [(hand,) for hand in hands]
    return [(_square(hand_extent(pose, group), margin, min_side), group) for group in groups]


def _hands_interact(pose: np.ndarray) -> bool:
    ax0, ay0, ax1, ay1 = hand_extent(pose, ("right",))
    bx0, by0, bx1, by1 = hand_extent(pose, ("left",))
    return ax0 < bx1 and bx0 < ax1 and ay0 < by1 and by0 < ay1


def _square(extent: tuple[float, float, float, float], margin: float, min_side: int) -> CropBox:
    x0, y0, x1, y1 = extent
    side = max(min_side, round(margin * max(x1 - x0, y1 - y0)))
    return CropBox(round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2), side)


# --- crop <-> canvas ------------------------------------------------------------------------------------------------
def resize(image: Tensor, size: int) -> Tensor:
    """Square image ``(..., C, H, H)`` at another size, bilinear with antialiasing; the same tensor at its own size."""
    if image.shape[-1] == size:
        return image
    stack = image.reshape(-1, *image.shape[-3:])
    if stack.dtype == torch.uint8:
        stack = stack.contiguous(memory_format=torch.channels_last)  # twice as fast, the same values
    stack = F.interpolate(stack, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return stack.reshape(*image.shape[:-2], size, size)


def crop(image: Tensor, box: CropBox, size: int, fill: float = 0.0) -> Tensor:
    """Cut a box out of ``image`` ``(..., C, H, W)``, resized to ``(..., C, size, size)``; ``fill`` lies outside."""
    return resize(cut(image, box, fill), size)


def cut(image: Tensor, box: CropBox, fill: float = 0.0) -> Tensor:
    """Cut a box out of ``image`` ``(..., C, H, W)``: ``(..., C, side, side)``; ``fill`` lies outside."""
    (left, right, columns), (top, bottom, rows) = (
        _span(start, box.side, length) for start, length in ((box.x, image.shape[-1]), (box.y, image.shape[-2]))
    )
    part = image[..., rows, columns]
    padding = (left, right, top, bottom)
    return F.pad(part, padding, value=fill) if any(padding) else part


def _span(start: int, side: int, length: int) -> tuple[int, int, slice]:
    """Of ``side`` pixels from ``start`` on: how many lie before the image and behind it, and which ones in it."""
    first, last = min(max(start, 0), length), min(max(start + side, 0), length)
    before = min(max(-start, 0), side)
    return before, side - before - (last - first), slice(first, last)


def paste(canvas: Tensor, patch: Tensor, box: CropBox, mask: Tensor | None = None) -> Tensor:
    """Put a crop back at its place: the background is removed, the rest resized and aligned (Section III-C).

    Args:
        canvas: ``(C, H, W)``; a changed copy is returned.
        patch: ``(C, size, size)``, resized to the box and clipped at the frame.
        box: where the crop was taken.
        mask: ``(1, size, size)`` in {0, 1}; only its pixels are replaced. None replaces the whole square.
    """
    if mask is None:
        mask = torch.ones_like(patch[:1])
    # Colours are weighted by the mask and divided by its coverage, so that an edge pixel holds the hand's colour and
    # nothing of the removed background.
    coverage = resize(mask, box.side)
    colours = resize(patch * mask, box.side) / coverage.clamp(min=1e-6)

    height, width = canvas.shape[-2:]
    top, left = max(0, -box.y), max(0, -box.x)
    bottom, right = min(box.side, height - box.y), min(box.side, width - box.x)
    canvas = canvas.clone()
    if bottom > top and right > left:
        inside = (..., slice(top, bottom), slice(left, right))
        there = (..., slice(box.y + top, box.y + bottom), slice(box.x + left, box.x + right))
        canvas[there] = torch.where(coverage[inside] > 0.5, colours[inside], canvas[there])
    return canvas


# --- mask expansion and blending ------------------------------------------------------------------------------------
def dilate(mask: Tensor, radius: int) -> Tensor:
    """Dilate a mask ``(B, 1, H, W)`` in {0, 1} by a square of side ``2 * radius + 1``; radius 0 changes nothing.

    Equal to ``radius`` dilations with a 3x3 kernel (Section III-D). A square is separable, which keeps a radius of 49
    as cheap as two thin kernels.
    """
    if radius == 0:
        return mask
    side = 2 * radius + 1
    mask = F.max_pool2d(mask, (side, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(mask, (1, side), stride=1, padding=(0, radius))


def expansion_radius(step: int, num_steps: int, start_radius_px: float) -> int:
    """Radius in pixels by which the hand mask is dilated at a step (Section III-D): the largest first, 0 at the last.

    The start radius is explicit, so the effect does not depend on the number of steps; 49 at 50 steps is the paper's
    one pixel an iteration.
    """
    if num_steps <= 1:
        return 0
    return int(start_radius_px * (num_steps - 1 - step) / (num_steps - 1) + 0.5)


def to_latent(mask: Tensor, factor: int) -> Tensor:
    """Mask ``(B, 1, H, W)`` to ``(B, 1, H/factor, W/factor)`` in {0, 1}: 1 where more than half is (Eq. 10)."""
    return (F.avg_pool2d(mask.float(), factor) > 0.5).to(mask.dtype)


def shrink_maps(maps: Tensor, size: int) -> Tensor:
    """Heat maps or masks ``(B, C, S, S)`` at latent size, bilinear as the paper says (Section III-B), in [0, 1]."""
    small = F.interpolate(maps.float(), size=(size, size), mode="bilinear", align_corners=False)
    return small.clamp(0, 1).to(maps.dtype)


def blend(keep: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """Eq. 11: ``keep`` where the mask is 1, ``other`` where it is 0."""
    return mask * keep + (1 - mask) * other


def canvas_at(scheduler: Any, canvas: Tensor, noise: Tensor, timesteps: Tensor | None, how: str) -> Tensor:
    """The canvas latents as Eq. 11 wants them; training and sampling both come here.

    Args:
        scheduler: a diffusers scheduler (``add_noise``).
        canvas: clean latents ``(B, 4, h, w)`` of the canvas.
        noise: the noise of the latents it will be blended with; one tensor for a whole trajectory.
        timesteps: ``(B,)`` level of those latents, or None where they are clean.
        how: one of :data:`BLENDS`.

    Raises:
        ValueError: when ``how`` is another word.
    """
    if how not in BLENDS:
        raise ValueError(f"blend must be one of {BLENDS}, got {how!r}")
    if how == "clean" or timesteps is None:
        return canvas
    if getattr(scheduler, "state_in_first_order", True):
        return scheduler.add_noise(canvas, noise, timesteps)
    return canvas + _half_way_sigma(scheduler) * noise


def _half_way_sigma(scheduler: Any) -> Tensor:
    """Noise level of the second call of a step with two, which the ``add_noise`` of KDPM2 and DPMSolverSDE do not know.

    It is read off the scale of the network's input, ``1 / sqrt(sigma**2 + 1)``.
    """
    one = torch.ones((), device=scheduler.timesteps.device)
    scale = scheduler.scale_model_input(one, scheduler.timesteps[scheduler.step_index])
    return (scale**-2 - 1).clamp(min=0).sqrt()

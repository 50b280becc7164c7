"""Eq. 11 with the mask expansion of Section III-D: what happens to the latents of stage II after each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from h2d.masks import blend, canvas_at, dilate, expansion_radius, to_latent

BLENDINGS = ("sequential", "naive", "bbox")
"""Table II: mask expansion, the hand mask as it is, the square of the crop."""
MAX_RADIUS = 4096
"""Of a dilation, in pixels."""
REFERENCE_SIZE = 512
"""Shorter side of an image at which ``start_radius_px`` is given."""


@dataclass
class Blender:
    """Fuses the canvas with the latents after a step.

    Args:
        scheduler: of the denoising loop.
        canvas_latents: clean latents ``(B, 4, h, w)`` of the canvas.
        noise: the noise that the trajectory started from; the canvas is noised with the same.
        mask: ``(B, 1, H, W)`` in {0, 1}, 1 = keep.
        factor: image pixels per latent cell and side.
        how: one of :data:`h2d.masks.BLENDS`.
        start_radius_px: dilation at the first step in pixels of this image; 0 is the naive strategy.
        unblended_last_steps: steps at the end without blending.
    """

    scheduler: Any
    canvas_latents: Tensor
    noise: Tensor
    mask: Tensor
    factor: int
    how: str
    start_radius_px: float
    unblended_last_steps: int

    def __call__(self, step: int, latents: Tensor) -> Tensor:
        """Latents ``(B, 4, h, w)`` after a scheduler step, fused with the canvas at the level that comes next."""
        timesteps = self.scheduler.timesteps
        if step >= len(timesteps) - self.unblended_last_steps:
            return latents
        level = timesteps[step + 1].expand(len(latents)) if step + 1 < len(timesteps) else None
        known = canvas_at(self.scheduler, self.canvas_latents, self.noise, level, self.how)
        return blend(known, latents, self.mask_latent(step, len(timesteps)))

    def mask_latent(self, step: int, num_steps: int) -> Tensor:
        """The expanded mask of a step at latent size, ``(B, 1, h, w)`` in {0, 1}."""
        radius = expansion_radius(step, num_steps, self.start_radius_px)
        return to_latent(dilate(self.mask, radius), self.factor)

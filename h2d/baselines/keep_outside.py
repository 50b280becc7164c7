"""HandRefiner's way to leave the rest of an image alone: it is put back before every step, with fresh noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from h2d.baselines.calls import parts_of
from h2d.baselines.settings import Settings
from h2d.masks import blend
from h2d.pipelines.noise import draw_noise


class KeepOutside:
    """Puts the image back outside the mask, noised to the level of the latents that it meets.

    Args:
        pipeline: of the second pass.
        settings: how it is called.
        images: uint8 ``(S, S, 3)``.
        masks: bool ``(S, S)``, true where they are painted anew.
        seeds: one for each image.
    """

    def __init__(
        self,
        pipeline: Any,
        settings: Settings,
        images: list[np.ndarray],
        masks: list[np.ndarray],
        seeds: list[torch.Generator],
    ) -> None:
        self.scheduler = pipeline.scheduler
        self.seeds = seeds
        self.scheduler.set_timesteps(settings.preset.steps, device=settings.device)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().to(settings.device) / 127.5 - 1
        self.clean = parts_of(pipeline).encode_image(pixels, sample=False)
        repaint = torch.from_numpy(np.stack(masks))[:, None].float().to(settings.device)
        self.outside = 1 - F.interpolate(repaint, self.clean.shape[-2:])

    def start(self, noise: Tensor) -> Tensor:
        """The latents ``(B, 4, h, w)`` to start from."""
        return self._put_back(noise, self.scheduler.timesteps[0])

    def __call__(self, pipeline: Any, step: int, timestep: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the pipeline calls after a step; after the last one nothing is put back."""
        if step + 1 == len(self.scheduler.timesteps):
            return tensors
        return {"latents": self._put_back(tensors["latents"], self.scheduler.timesteps[step + 1])}

    def _put_back(self, latents: Tensor, level: Tensor) -> Tensor:
        noise = draw_noise(tuple(self.clean.shape[1:]), self.seeds, self.clean.device)
        known = self.scheduler.add_noise(self.clean, noise, level.expand(len(latents)))
        return blend(known, latents.float(), self.outside).to(latents.dtype)

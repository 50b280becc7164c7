"""The colour changes of stage I's training samples (Section IV-A)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """Random shift of each colour channel, brightness and contrast.

    Args:
        rgb_shift: largest shift of a channel, as a share of the full range.
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast, around the image's mean.
    """

    rgb_shift: float
    brightness: float
    contrast: float

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Shifts of red, green and blue, factors of brightness and contrast, ``(5,)``."""
        shift = rng.uniform(-self.rgb_shift, self.rgb_shift, 3)
        brightness = 1 + rng.uniform(-self.brightness, self.brightness)
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        return torch.tensor([*shift, brightness, contrast], dtype=torch.float32)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Change an image ``(3, H, W)`` in [-1, 1]; the result stays in [-1, 1]."""
        return change_colours(image, self.draw(rng))


def change_colours(images: Tensor, colours: Tensor) -> Tensor:
    """Images ``(..., 3, H, W)`` in [-1, 1] with the changes that were drawn for them, ``(..., 5)``; still in [-1, 1].

    All three changes are affine in the pixel value, so they are one multiplication and one addition. Brightness scales
    the distance to black, which is -1.
    """
    shift, brightness, contrast = (
        part.unsqueeze(-1).unsqueeze(-1) for part in (2 * colours[..., :3], colours[..., 3:4], colours[..., 4:5])
    )
    offset = shift + brightness - 1
    mean = brightness * images.mean(dim=(-3, -2, -1), keepdim=True) + offset.mean(dim=-3, keepdim=True)
    return (images * (brightness * contrast)).add_(contrast * (offset - mean) + mean).clamp_(-1, 1)

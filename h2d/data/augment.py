"""The colour changes of stage I's training samples (Section IV-A)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Change an image ``(3, H, W)`` in [-1, 1]; the result stays in [-1, 1]."""
        shift = 2 * image.new_tensor(rng.uniform(-self.rgb_shift, self.rgb_shift, 3)).view(3, 1, 1)
        brightness = 1 + rng.uniform(-self.brightness, self.brightness)
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        # All three are affine in the pixel value, so they are one multiplication and one addition. Brightness scales
        # the distance to black, which is -1.
        offset = shift + brightness - 1
        mean = brightness * image.mean() + offset.mean()
        return image.mul(brightness * contrast).add_(contrast * (offset - mean) + mean).clamp_(-1, 1)

"""How sharply colours change around the hands: what a seam between them and the body would raise (Section IV-E)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from h2d.masks import dilate

BAND = 1 / 128
"""Half the width of the band around a hand's border, as a share of the picture's side: 2 px at 256."""


def border_contrast(image: np.ndarray, hands: np.ndarray) -> float | None:
    """Mean absolute difference, in [0, 255], of neighbouring pixels in the band around the hands' borders.

    Args:
        image: uint8 ``(S, S, 3)``.
        hands: labels ``(S, S)``, 0 = background.

    Returns:
        None where the band is empty: no hand is labelled.
    """
    mask = torch.from_numpy(hands > 0)[None, None].float()
    radius = max(1, round(BAND * len(image)))
    band = (dilate(mask, radius) - (1 - dilate(1 - mask, radius)))[0, 0] > 0
    pixels = torch.from_numpy(image).float()
    differences = [
        (pixels.diff(dim=axis).abs().mean(dim=-1))[_both(band, axis)]  # of two pixels that are in the band
        for axis in (0, 1)
    ]
    steps = torch.cat(differences)
    return float(steps.mean()) if len(steps) else None


def _both(band: Tensor, axis: int) -> Tensor:
    size = band.shape[axis]
    return band.narrow(axis, 1, size - 1) & band.narrow(axis, 0, size - 1)


class BorderContrast(MeanMetric):
    """Mean of :func:`border_contrast` over images."""

    def add(self, images: list[np.ndarray], hands: list[np.ndarray]) -> None:
        """Add images; those without a labelled hand do not count."""
        values = [border_contrast(image, labels) for image, labels in zip(images, hands, strict=True)]
        if known := [value for value in values if value is not None]:
            self.update(torch.tensor(known, dtype=torch.float64))

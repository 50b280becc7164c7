"""What HandRefiner's second pass is told about the hands of an image.

Its own preprocessor fits MANO's mesh, whose files are gated, with code under the GPL. Neither is part of this package:
depth maps come from a program or a folder of the user (``depth_files``), or from capsules around MediaPipe's landmarks
(``depth_capsules``), which are not HandRefiner's mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

REFERENCE_SIZE = 512
"""Side of the images for which HandRefiner's numbers of pixels are meant."""
PADDING_PX, PADDING_SHARE = 30, 0.15
"""A hand's box grows on each side by the larger of the two: pixels at 512, and share of the box's side."""


@dataclass(frozen=True)
class HandMaps:
    """All hands of an image.

    Args:
        depth: uint8 ``(S, S)``, 255 nearest, 51 farthest, 0 no hand.
        mask: bool ``(S, S)``, true where the image is painted anew.
    """

    depth: np.ndarray
    mask: np.ndarray


class HandDepth(Protocol):
    """Finds hands in images."""

    label: str
    """What it is, for the protocol of a comparison."""

    def __call__(self, images: Sequence[np.ndarray]) -> list[HandMaps | None]:
        """Maps of each uint8 ``(S, S, 3)`` image, None where no hand is found.

        Raises:
            DataError: maps that should be there are not, or have another form.
            SetupError: it cannot work on this machine.
        """
        ...

    def close(self) -> None:
        """End what was started."""
        ...


def box_mask(extents: Sequence[tuple[float, float, float, float]], size: int) -> np.ndarray:
    """The padded boxes of all hands.

    Args:
        extents: tight box ``x0, y0, x1, y1`` in pixels around each hand.
        size: side S of the image.

    Returns:
        bool ``(S, S)``.
    """
    mask = np.zeros((size, size), bool)
    least = PADDING_PX * size / REFERENCE_SIZE
    for x0, y0, x1, y1 in extents:
        across, down = max(least, PADDING_SHARE * (x1 - x0)), max(least, PADDING_SHARE * (y1 - y0))
        left, top = max(0, int(x0 - across)), max(0, int(y0 - down))
        mask[top : max(0, int(np.ceil(y1 + down))), left : max(0, int(np.ceil(x1 + across)))] = True
    return mask

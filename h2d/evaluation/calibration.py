"""What the metrics say without any generator: real pictures, and copies that are wrong in a known way.

A metric that does not put these in the right order measures something else. ``real`` is the most that a system can
reach, since only the detector errs; ``shuffled`` is what one reaches that paints people and ignores the pose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from h2d.data.dataset import ShardDataset
from h2d.data.schema import Sample, decode_sample
from h2d.data.square import square_sample
from h2d.errors import DataError
from h2d.pictures import Indexed, Picture
from h2d.randomness import picture_rng

BLUR, SHIFT = 1 / 64, 1 / 10
"""Radius of the blur and length of the shift, as shares of the picture's side."""
Alter = Callable[[np.ndarray, Sample, np.random.Generator], np.ndarray]


def blurred(image: np.ndarray, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """Small things, such as fingers, are gone."""
    blur = ImageFilter.GaussianBlur(BLUR * len(image))
    return np.array(Image.fromarray(image).filter(blur))


def shifted(image: np.ndarray, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """The person is right, in the wrong place: moved to the right, the border repeated."""
    pixels = round(SHIFT * len(image))
    return np.pad(image, ((0, 0), (pixels, 0), (0, 0)), mode="edge")[:, : len(image)]


def without_hands(image: np.ndarray, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """The body is right, the hands are no hands: their pixels are the same ones in random order."""
    result, inside = image.copy(), sample.hands > 0
    result[inside] = rng.permutation(image[inside])
    return result


ALTERATIONS: dict[str, Alter] = {
    "real": lambda image, sample, rng: image,
    "blurred": blurred,
    "shifted": shifted,
    "without-hands": without_hands,
    "shuffled": lambda image, sample, rng: image,
}
"""By the name of the method; ``shuffled`` takes the picture of another sample, half the split away."""


@dataclass(frozen=True)
class Copies:
    """A :class:`h2d.evaluation.samplers.Sampler` that paints nothing and shows the photographs.

    Args:
        name: one of :data:`ALTERATIONS`.
        data: the split, in order.
        seed: of the alteration.
        size: side of the pictures in pixels.
    """

    name: str
    data: ShardDataset
    seed: int
    size: int

    @property
    def device(self) -> torch.device:
        """The CPU: there are no networks."""
        return torch.device("cpu")

    def make(self, batch: Sequence[Indexed]) -> list[Picture]:
        """See :class:`h2d.evaluation.samplers.Sampler`."""
        return [self._picture(index, square_sample(sample, self.size)) for index, sample in batch]

    def protocol(self) -> dict[str, Any]:
        """See :class:`h2d.evaluation.samplers.Sampler`."""
        return {"method": self.name, "seed": self.seed, "blur": BLUR, "shift": SHIFT}

    def _picture(self, index: int, sample: Sample) -> Picture:
        image = sample.image
        if self.name == "shuffled" and len(self.data) < 2:
            raise DataError("shuffled needs a split of two samples at least", "choose another split, or other methods")
        if self.name == "shuffled":
            other = (index + len(self.data) // 2) % len(self.data)
            image = square_sample(decode_sample(self.data.read(other)), self.size).image
        image = ALTERATIONS[self.name](image, sample, picture_rng(self.seed, index))
        nothing = torch.zeros(0, 1, self.size, self.size)
        return Picture(index, sample, {"result": image, "photograph": sample.image}, nothing, nothing)

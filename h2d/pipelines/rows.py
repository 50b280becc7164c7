"""What goes along with the images through both stages, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from h2d.pipelines.canvas import HandPlace
from h2d.pipelines.noise import spawn
from h2d.skeleton import HAND_SLICES


@dataclass
class TwoStageOutput(BaseOutput):
    """What both stages made.

    ``images`` as ``output_type`` says; ``hand_images`` and ``hand_masks`` a list for each image with one entry for each
    of its ``places`` (an image as ``output_type`` says and a mask ``(1, S, S)`` in [0, 1]); ``places`` the crop squares
    with the hands each is for. What stage II was given: ``canvas`` ``(B, 3, H, W)`` in [-1, 1], ``hand_mask``
    ``(B, 1, H, W)`` in {0, 1} and ``skeletons`` uint8 ``(B, H, W, 3)``. ``warnings`` has the lines that were logged for
    each image.
    """

    images: Any
    hand_images: list[list[Any]]
    hand_masks: list[list[Tensor]]
    places: list[list[HandPlace]]
    canvas: Tensor
    hand_mask: Tensor
    skeletons: np.ndarray
    warnings: list[list[str]]


class Text(NamedTuple):
    """Embeddings ``(B, L, D)`` of the texts of all images, and those of the negative prompts when guidance is on."""

    positive: Tensor
    negative: Tensor | None

    def of(self, rows: Sequence[int]) -> dict[str, Tensor | None]:
        """The arguments of a stage for some of the images."""
        index = list(rows)
        negative = None if self.negative is None else self.negative[index]
        return {"prompt_embeds": self.positive[index], "negative_prompt_embeds": negative}


class Seeds(NamedTuple):
    """The randomness of one image; neither hand changes what another one or the body gets."""

    outpaint: torch.Generator
    hands: list[dict[str, torch.Generator]]

    @classmethod
    def of(cls, generator: torch.Generator, people: int) -> Seeds:
        """Those that follow from the generator of an image."""
        outpaint = spawn(generator)
        return cls(outpaint, [{hand: spawn(generator) for hand in HAND_SLICES} for _ in range(people)])

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from h2d.pipelines.hand import HandPipeline
from h2d.pipelines.outpaint import OutpaintPipeline
from h2d.pipelines.two_stage import TwoStagePipeline

from .conftest import FACTOR, SIZE, make_pose
from .contract_parts import PartsContract

TEXTS = ["a person", "a dancer waves", "two hands"]


class TestHandPipeline(PartsContract):
    kind = HandPipeline
    denoisers = ("hand_unet",)

    @classmethod
    def inputs(cls, count: int) -> dict[str, Any]:
        cells = SIZE // FACTOR
        maps = torch.rand(3, 10, cells, cells, generator=torch.Generator().manual_seed(0))
        return {"prompt": TEXTS[:count], "heatmaps": maps[:count]}

    def free(self, inputs: dict[str, Any], output: Any) -> np.ndarray:
        return np.ones(output.images.shape[:3], bool)


class TestOutpaintPipeline(PartsContract):
    kind = OutpaintPipeline
    options: ClassVar = {"unblended_last_steps": 0}
    denoisers = ("unet", "controlnet")

    @classmethod
    def inputs(cls, count: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(4)
        hint, canvas = torch.rand(3, 4, SIZE, 48, generator=generator), torch.rand(3, 3, SIZE, 48, generator=generator)
        hand_mask = torch.zeros(3, 1, SIZE, 48)
        hand_mask[:, :, 21:40, 18:37] = 1
        hint[:, 3:] = hand_mask
        given = {"hint": hint, "canvas": 2 * canvas - 1, "hand_mask": hand_mask}
        return {"prompt": TEXTS[:count], **{key: value[:count] for key, value in given.items()}}

    def free(self, inputs: dict[str, Any], output: Any) -> np.ndarray:
        return inputs["hand_mask"][:, 0].numpy() == 0


class TestTwoStagePipeline(PartsContract):
    kind = TwoStagePipeline
    settings: ClassVar = {"image_size": SIZE, "sigma_px": 1.0}
    options: ClassVar = {"unblended_last_steps": 0}
    denoisers = ("hand_unet", "unet", "controlnet")
    stages = 2

    @classmethod
    def inputs(cls, count: int) -> dict[str, Any]:
        people = [
            np.stack([make_pose(right=(16, 20, 16), left=(46, 40, 20))]),
            np.stack([make_pose(right=(30, 30, 16), left=(36, 34, 18)), make_pose(left=(60, 8, 14))]),
            make_pose(left=(40, 30, 20))[None],
        ]
        return {"prompt": TEXTS[:count], "pose": people[:count]}

    def free(self, inputs: dict[str, Any], output: Any) -> np.ndarray:
        return output.hand_mask[:, 0].numpy() == 0

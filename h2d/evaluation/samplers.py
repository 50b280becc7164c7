"""Who makes the pictures of an evaluation: our pipeline, or one of the compared systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch

from h2d.baselines.system import System
from h2d.data.square import square_sample
from h2d.experiment import SamplingConfig
from h2d.networks.base import make_sampler
from h2d.pictures import HandCrops, Indexed, Picture, sample_people
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.randomness import picture_generator


class Sampler(Protocol):
    """Makes square pictures of ``size`` pixels on a ``device``."""

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        ...

    def make(self, batch: Sequence[Indexed]) -> list[Picture]:
        """A picture for each sample, which depends on the seed, the sample and its index only."""
        ...

    def protocol(self) -> dict[str, Any]:
        """Everything that decides the pictures, as JSON can hold it."""
        ...


@dataclass(frozen=True)
class TwoStages:
    """Both stages of h2d.

    Args:
        pipeline: both stages.
        seed: of the pictures.
        settings: of the sampling.
    """

    pipeline: TwoStagePipeline
    seed: int
    settings: SamplingConfig

    def __post_init__(self) -> None:
        """Give the pipeline the scheduler of the settings."""
        self.pipeline.scheduler = make_sampler(self.pipeline.scheduler, self.settings.scheduler)

    @property
    def size(self) -> int:
        """See :class:`Sampler`."""
        return int(self.pipeline.config["image_size"])

    @property
    def device(self) -> torch.device:
        """See :class:`Sampler`."""
        return self.pipeline.device

    def make(self, batch: Sequence[Indexed]) -> list[Picture]:
        """See :class:`Sampler`."""
        return sample_people(self.pipeline, batch, seed=self.seed, settings=self.settings)

    def protocol(self) -> dict[str, Any]:
        """See :class:`Sampler`."""
        return {
            "method": "h2d",
            "seed": self.seed,
            "sampling": asdict(self.settings) | {"blend": self.pipeline.config["blend"]},
            "hand_crops": asdict(HandCrops.of(self.pipeline)),
        }


@dataclass(frozen=True)
class Compared:
    """One of the compared systems (Section IV-D): the same captions, poses, squares and seeds as ours.

    Args:
        system: see :mod:`h2d.baselines`.
        seed: of the pictures.
        size: side of the pictures in pixels.
        device: of the system.
    """

    system: System
    seed: int
    size: int
    device: torch.device

    def make(self, batch: Sequence[Indexed]) -> list[Picture]:
        """See :class:`Sampler`."""
        squares = [(index, square_sample(sample, self.size)) for index, sample in batch]
        made = self.system.generate(
            [sample.caption for _, sample in squares],
            np.stack([sample.pose for _, sample in squares]),
            [picture_generator(self.seed, index) for index, _ in squares],
        )
        nothing = torch.zeros(0, 1, self.size, self.size)
        return [
            Picture(
                index,
                sample,
                {**one.panels, "result": one.image, "photograph": sample.image},
                nothing,
                nothing,
                one.remarks,
            )
            for (index, sample), one in zip(squares, made, strict=True)
        ]

    def protocol(self) -> dict[str, Any]:
        """See :class:`Sampler`."""
        return {"method": self.system.name, "seed": self.seed, **self.system.protocol()}

"""Samples in, pictures out: how an evaluation calls the pipelines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from h2d.data.samples import choose_box, crop_mask, hand_example
from h2d.data.schema import Sample
from h2d.data.square import square_sample
from h2d.experiment import SamplingConfig
from h2d.grids import mosaic
from h2d.masks import only_hands
from h2d.pipelines.hand import HandOutput, HandPipeline
from h2d.pipelines.two_stage import TwoStageOutput, TwoStagePipeline
from h2d.randomness import picture_generator
from h2d.rendering import Wrist, draw_openpose
from h2d.skeleton import HANDS

Indexed = tuple[int, Sample]


@dataclass(frozen=True)
class HandCrops:
    """How stage I's crops are made from a sample; see :func:`h2d.data.samples.hand_example`."""

    size: int
    margin: float
    sigma_px: float
    wrist: Wrist

    @classmethod
    def of(cls, pipeline: Any) -> HandCrops:
        """The settings that a :class:`TwoStagePipeline` carries."""
        config = pipeline.config
        return cls(int(config["hand_size"]), float(config["margin"]), float(config["sigma_px"]), config["wrist"])


@dataclass(frozen=True)
class Picture:
    """What came out for one sample.

    Args:
        index: of the sample in its split.
        sample: cut to the square that was generated; as it was, when stage I alone was sampled.
        panels: uint8 pictures ``(S, S, 3)`` by label, in the order in which a table shows them.
        masks: stage I's masks ``(N, 1, s, s)`` in [0, 1], one for each crop, and what they should be.
        true_masks: of the same shape.
        remarks: what went otherwise than asked, each as ``kind: details``.
    """

    index: int
    sample: Sample
    panels: dict[str, np.ndarray]
    masks: Tensor
    true_masks: Tensor
    remarks: tuple[str, ...] = ()

    @property
    def image(self) -> np.ndarray:
        """The generated image, uint8 ``(S, S, 3)``."""
        return self.panels["result"]


def batches(samples: Iterable[Sample], size: int, rank: int, world_size: int) -> Iterator[list[Indexed]]:
    """Every ``world_size``-th sample from ``rank`` on, with its index, ``size`` at a time."""
    own = islice(enumerate(samples), rank, None, world_size)
    while batch := list(islice(own, size)):
        yield batch


def sample_people(
    pipeline: TwoStagePipeline, batch: Sequence[Indexed], *, seed: int, settings: SamplingConfig
) -> list[Picture]:
    """Both stages for each caption and pose (Section III-A), blended as the pipeline was trained."""
    size = int(pipeline.config["image_size"])
    squares = [(index, square_sample(sample, size)) for index, sample in batch]
    output = pipeline(
        prompt=[sample.caption for _, sample in squares],
        pose=np.stack([sample.pose for _, sample in squares]),
        generator=[picture_generator(seed, index) for index, _ in squares],
        output_type="pt",
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        negative_prompt=settings.negative_prompt,
        blending=settings.blending,
        start_radius_px=settings.start_radius_px,
        unblended_last_steps=settings.unblended_last_steps,
    )
    assert isinstance(output, TwoStageOutput)
    crops = HandCrops.of(pipeline)
    return [_person(output, place, index, sample, crops.size) for place, (index, sample) in enumerate(squares)]


def person_panels(output: TwoStageOutput, row: int) -> dict[str, np.ndarray]:
    """What the stages saw and made of one image, uint8 ``(H, W, 3)`` by label, the image itself as "result".

    Args:
        output: with ``output_type="pt"``.
        row: of the image.
    """
    size = min(output.skeletons[row].shape[:2])
    return {
        "pose": output.skeletons[row],
        "hand (stage I)": mosaic([to_uint8(hand) for hand in output.hand_images[row]], size),
        "predicted mask": mosaic([to_uint8(mask) for mask in output.hand_masks[row]], size),
        "canvas": to_uint8(output.canvas[row] / 2 + 0.5),
        "result": to_uint8(output.images[row]),
    }


def _person(output: TwoStageOutput, row: int, index: int, sample: Sample, size: int) -> Picture:
    places, masks = output.places[row], output.hand_masks[row]
    panels = {**person_panels(output, row), "photograph": sample.image}
    true_masks = [crop_mask(sample.hands, here.names, here.box, size) for here in places]
    return Picture(index, sample, panels, _stack(masks, size), _stack(true_masks, size))


def _stack(masks: Sequence[Tensor], size: int) -> Tensor:
    return torch.stack(list(masks)).float().cpu() if masks else torch.zeros(0, 1, size, size)


def sample_hands(
    pipeline: HandPipeline, batch: Sequence[Indexed], *, crops: HandCrops, seed: int, settings: SamplingConfig
) -> list[Picture]:
    """Stage I alone, on the first crop of each sample, without a mask as input (mask-free inference, Section III-B)."""
    latent_size = crops.size // pipeline.parts.factor
    options = {**vars(crops), "latent_size": latent_size, "rng": None, "augment": None}
    examples = [hand_example(sample, **options) for _, sample in batch]
    output = pipeline(
        prompt=[example["caption"] for example in examples],
        heatmaps=torch.stack([example["heatmaps"] for example in examples]),
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        negative_prompt=settings.negative_prompt,
        generator=[picture_generator(seed, index) for index, _ in batch],
        output_type="pt",
    )
    assert isinstance(output, HandOutput)
    masks = output.masks.float().cpu()
    pictures = []
    for place, ((index, sample), example) in enumerate(zip(batch, examples, strict=True)):
        panels = {
            "pose": draw_openpose(_crop_pose(sample, crops), crops.size),
            "result": to_uint8(output.images[place]),
            "predicted mask": to_uint8(masks[place]),
            "photograph": to_uint8(example["image"] / 2 + 0.5),
            "true mask": to_uint8(example["hand_mask"]),
        }
        pictures.append(Picture(index, sample, panels, masks[place][None], example["hand_mask"][None]))
    return pictures


def _crop_pose(sample: Sample, crops: HandCrops) -> np.ndarray:
    """The hands of the crop in its pixels, without the rest of the person."""
    box, names = choose_box(sample, crops.margin, rng=None)
    pose = only_hands(box.to_crop(sample.pose, crops.size), names)
    pose[: HANDS.start, 2] = 0
    return pose


def to_uint8(image: Tensor) -> np.ndarray:
    """Image ``(C, H, W)`` in [0, 1] as uint8 ``(H, W, 3)``, or ``(H, W)`` for one channel."""
    pixels = (image.float().clamp(0, 1) * 255).round().byte().cpu().permute(1, 2, 0).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels

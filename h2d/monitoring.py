"""What an unfinished run can do so far: its own stage, or both when the other stage's checkpoint is at hand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch

from h2d.assembly import hand_pipeline, outpaint_pipeline, two_stage_pipeline
from h2d.data.samples import outpaint_example
from h2d.data.schema import Sample
from h2d.data.square import square_sample
from h2d.evaluation.loop import Finder, measure, measure_hands
from h2d.evaluation.measurements import Measurement
from h2d.evaluation.samplers import TwoStages
from h2d.experiment import SamplingConfig
from h2d.pictures import HandCrops, Picture, to_uint8
from h2d.pipelines.outpaint import OutpaintOutput
from h2d.randomness import picture_generator, preserved_rng
from h2d.tasks.base import DiffusionTask
from h2d.tasks.hand import HandGenerator
from h2d.tasks.outpaint import Outpainter


def measure_task(
    task: DiffusionTask,
    partner: DiffusionTask | None,
    samples: Iterable[Sample],
    *,
    sampling: SamplingConfig,
    detector: Finder | None,
    rank: int = 0,
    world_size: int = 1,
) -> Measurement:
    """Sample and measure a task in training; exchanges nothing with other ranks.

    Args:
        task: of stage I or II.
        partner: the other stage; without it, stage I is measured on its masks and stage II shows pictures only.
        samples: the same ones on every rank.
        sampling: steps and blending.
        detector: finds poses, for both stages together.
        rank: of this process.
        world_size: number of processes that share the samples.
    """
    settings = task.experiment.evaluation
    seed = task.experiment.seed
    options: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "keep": settings.grid_samples,
        "rank": rank,
        "world_size": world_size,
    }
    hand = task if isinstance(task, HandGenerator) else partner
    outpaint = task if isinstance(task, Outpainter) else partner
    if isinstance(hand, HandGenerator) and isinstance(outpaint, Outpainter):
        sampler = TwoStages(two_stage_pipeline(hand, outpaint), seed, sampling)
        return measure(sampler, samples, metrics=task.experiment.metrics, detector=detector, **options)
    if isinstance(hand, HandGenerator):
        crops = hand_crops(hand)
        stage = hand_pipeline(hand)
        return measure_hands(stage, samples, crops=crops, seed=seed, sampling=sampling, **options)
    assert isinstance(outpaint, Outpainter)
    shown = islice(samples, settings.grid_samples) if rank == 0 else []
    return Measurement(None, {}, sample_outpainting(outpaint, shown, seed=seed, sampling=sampling))


def hand_crops(task: HandGenerator) -> HandCrops:
    """How the task's hand crops are made."""
    experiment = task.experiment
    return HandCrops(experiment.image_size, experiment.data.crop_margin, experiment.sigma_px, experiment.data.wrist)


def sample_outpainting(
    task: Outpainter, samples: Iterable[Sample], *, seed: int, sampling: SamplingConfig
) -> list[Picture]:
    """Stage II alone, around the hands of the real pictures."""
    size, pipeline = task.experiment.image_size, outpaint_pipeline(task)
    pictures = []
    with preserved_rng():
        for index, sample in enumerate(samples):
            example = outpaint_example(sample, size=size)
            hint, canvas, hand_mask = (example[name][None] for name in ("hint", "canvas", "hand_mask"))
            output = pipeline(
                sample.caption,
                hint,
                canvas,
                hand_mask,
                blending="naive" if sampling.blending == "bbox" else sampling.blending,  # real hands have no square
                blend=task.experiment.sampling.blend,
                start_radius_px=sampling.start_radius_px,
                unblended_last_steps=sampling.unblended_last_steps,
                num_inference_steps=sampling.num_inference_steps,
                guidance_scale=sampling.guidance_scale,
                generator=picture_generator(seed, index),
                output_type="pt",
            )
            assert isinstance(output, OutpaintOutput)
            panels = {
                "pose": to_uint8(hint[0, :3]),
                "canvas": to_uint8(canvas[0] / 2 + 0.5),
                "result": to_uint8(torch.as_tensor(output.images[0])),
                "photograph": to_uint8(example["image"] / 2 + 0.5),
            }
            pictures.append(Picture(index, square_sample(sample, size), panels, hand_mask, hand_mask))
    return pictures

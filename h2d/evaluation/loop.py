"""Sampling and measuring (Section IV-C): the one loop behind the training callback and the command.

A picture's noise follows from the seed and the number of its sample, so pictures depend neither on the batch size nor
on the number of ranks. The global random state is left as it was, so that evaluating does not change training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from h2d.annotators.pose import PoseResult
from h2d.data.schema import Sample
from h2d.evaluation.measurements import Evaluation, Measurement, add_rows
from h2d.evaluation.rows import Row
from h2d.evaluation.samplers import Sampler
from h2d.experiment import MetricsConfig, SamplingConfig
from h2d.metrics.mask import mask_ious
from h2d.metrics.suite import Suite
from h2d.pictures import HandCrops, Indexed, Picture, batches, sample_hands
from h2d.pipelines.hand import HandPipeline
from h2d.randomness import preserved_rng

Make = Callable[[list[Indexed]], list[Picture]]


class Finder(Protocol):
    """Finds one person in each image; see :class:`h2d.detection.PoseDetector`."""

    def submit(self, images: Sequence[np.ndarray]) -> Callable[[], list[PoseResult]]:
        """Start to look at uint8 images ``(H, W, 3)``; what is returned waits for the poses, in pixels."""
        ...


class Look(NamedTuple):
    """A picture, and what was found in it."""

    picture: Picture
    row: Row


def look(
    make: Make, parts: Iterable[list[Indexed]], detector: Finder | None, ground_truth: str = "annotation"
) -> Iterator[list[Look]]:
    """Make the pictures of each batch, and find the poses in them while the next ones are made.

    Args:
        make: pictures of a batch.
        parts: batches.
        detector: None finds no poses.
        ground_truth: "annotation" compares with the samples' poses, "redetected" with those found in the photographs.
    """
    last: Callable[[], list[Look]] | None = None
    for part in parts:
        with preserved_rng(), torch.no_grad():
            pictures = make(part)
        started = partial(_looked, pictures, *_started(pictures, detector, ground_truth))
        if last is not None:
            yield last()
        last = started
    if last is not None:
        yield last()


def evaluate(sampler: Sampler, samples: Iterable[Sample], **options: Any) -> Evaluation:
    """:func:`measure`, and the numbers over all ranks; arguments and errors are the same."""
    return measure(sampler, samples, **options).compute()


def evaluate_hands(pipeline: HandPipeline, samples: Iterable[Sample], **options: Any) -> Evaluation:
    """:func:`measure_hands`, and the numbers over all ranks; arguments are the same."""
    return measure_hands(pipeline, samples, **options).compute()


def measure(
    sampler: Sampler,
    samples: Iterable[Sample],
    *,
    metrics: MetricsConfig,
    batch_size: int = 4,
    detector: Finder | None = None,
    rank: int = 0,
    world_size: int = 1,
    keep: int = 8,
) -> Measurement:
    """Generate a person for the caption and pose of every sample, and measure how well the images follow.

    Exchanges nothing with other ranks. What needs a network's opinion of the images is not measured.

    Args:
        sampler: makes the pictures.
        samples: the same ones on every rank; a rank takes every ``world_size``-th.
        metrics: what is compared, and how.
        batch_size: images sampled at a time.
        detector: finds poses in images; without it the metrics of poses are skipped.
        rank: of this process.
        world_size: number of processes over which the numbers are reduced.
        keep: pictures to keep for a table.
    """
    suite = Suite(_device(sampler, world_size), metrics)
    parts = batches(samples, batch_size, rank, world_size)
    looks = look(sampler.make, parts, detector, metrics.ground_truth)
    made = _measured(looks, suite, sampler.size, detector is not None, keep)
    protocol = sampler.protocol() | {
        "image_size": sampler.size,
        "metrics": asdict(metrics),
        "remarks": dict(made.remarks),
    }
    absent = "no pose detector was given" if detector is None else "no sample has what it is measured on"
    return Measurement(suite, protocol, *made[:3], otherwise=absent)


def measure_hands(
    pipeline: HandPipeline,
    samples: Iterable[Sample],
    *,
    crops: HandCrops,
    seed: int,
    sampling: SamplingConfig,
    batch_size: int = 4,
    rank: int = 0,
    world_size: int = 1,
    keep: int = 8,
) -> Measurement:
    """Stage I alone: generate a hand for the first crop of every sample and measure the predicted mask.

    Arguments are those of :func:`measure`; ``crops`` says how the crops are made.
    """
    suite = Suite(_device(pipeline, world_size))
    make = partial(sample_hands, pipeline, crops=crops, seed=seed, settings=sampling)
    parts = batches(samples, batch_size, rank, world_size)
    made = _measured(look(make, parts, None), suite, crops.size, False, keep)
    protocol = {"seed": seed, "crops": asdict(crops), "sampling": asdict(sampling)}
    return Measurement(suite, protocol, *made[:3], otherwise="stage I alone makes no picture of a person")


class _Made(NamedTuple):
    """The pictures to keep, how many masks stage I made of which how many were empty, and remarks by kind."""

    pictures: list[Picture]
    masks: int
    empty_masks: int
    remarks: Counter[str]


def _measured(looks: Iterable[list[Look]], suite: Suite, size: int, detected: bool, keep: int) -> _Made:
    """Measure every picture of ``size`` pixels; the first ``keep`` are kept."""
    kept: list[Picture] = []
    masks = empty = 0
    remarks: Counter[str] = Counter()
    add_rows(suite, [], size, detected)  # a rank without samples takes part in the reduction
    for part in looks:
        rows = [one.row for one in part]
        add_rows(suite, rows, size, detected)
        masks += sum(len(row.mask_ious) for row in rows)
        empty += sum(row.empty_masks for row in rows)
        remarks.update(kind for row in rows for kind in row.kinds)
        kept += [one.picture for one in part[: keep - len(kept)]]
    return _Made(kept, masks, empty, remarks)


def _started(pictures: list[Picture], detector: Finder | None, ground_truth: str) -> list[Callable[[], list[Any]]]:
    """What waits for the poses found in the pictures, and for those they are compared with."""
    annotated = [picture.sample.pose for picture in pictures]
    if detector is None:
        return [lambda: [None] * len(pictures), lambda: annotated]
    found = detector.submit([picture.image for picture in pictures])
    if ground_truth == "annotation":
        return [found, lambda: annotated]
    real = detector.submit([picture.sample.image for picture in pictures])
    return [found, lambda: [result.pose for result in real()]]


def _looked(
    pictures: list[Picture], found: Callable[[], list[PoseResult | None]], truth: Callable[[], list[np.ndarray]]
) -> list[Look]:
    return [
        Look(picture, _row(picture, result, pose))
        for picture, result, pose in zip(pictures, found(), truth(), strict=True)
    ]


def _row(picture: Picture, result: PoseResult | None, truth: np.ndarray) -> Row:
    return Row(
        number=picture.index,
        key=picture.sample.key,
        gesture=str(picture.sample.meta.get("gesture") or ""),
        found=None if result is None else result.pose,
        score=0.0 if result is None else result.score,
        truth=truth,
        mask_ious=tuple(mask_ious(picture.masks, picture.true_masks).tolist()),
        empty_masks=int((picture.masks <= 0.5).flatten(1).all(dim=1).sum()),
        remarks=picture.remarks,
    )


def _device(maker: Any, world_size: int) -> torch.device | str:
    """Where sums are kept: ranks on GPUs can only reduce what lies there."""
    return maker.device if world_size > 1 and maker.device.type == "cuda" else "cpu"

"""Sampling and measuring (Section IV-C): the one loop behind the training callback and the command.

A picture's noise follows from the seed and the picture's index, so pictures depend neither on the batch size nor on
the number of ranks. The global random state is left as it was, so that evaluating does not change training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch

from h2d.data.schema import Sample
from h2d.detection import DETECT_SIZE, Detector
from h2d.experiment import SamplingConfig
from h2d.measurements import Evaluation, Measurement, measure_images, measure_poses
from h2d.metrics.image_suite import ImageNetworks
from h2d.metrics.suite import Suite
from h2d.pictures import HandCrops, Indexed, Picture, batches, sample_hands
from h2d.pipelines.hand import HandPipeline
from h2d.randomness import preserved_rng
from h2d.samplers import Sampler

GROUND_TRUTHS = ("annotation", "redetected")
"""Poses to compare with: those of the data set, or those that the detector finds in the real images."""

POSE_METRICS = (
    "DAP: COCO keypoint AP over OKS 0.50:0.05:0.95 with COCO-WholeBody sigmas, the area is width x height of the box "
    "around the person's labelled keypoints (for dap_hands_strict around the hands'), equal scores rank by index; "
    "DAR: the AR that belongs to it. MPJPE: in x / width, y / height, over the keypoints that the truth has; those "
    "not found count as (0, 0), in mpjpe_matched they do not count. mask_iou: stage I without a mask as input, against "
    "the hand mask of the sample, cut at 0.5."
)

_IMAGE_METRICS = ("fid", "kid", "kid_x1000", "fid_fg", "kid_fg", "clipsim")
_NO_NETWORKS = dict.fromkeys(_IMAGE_METRICS, "no network with its weights was given")


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
    batch_size: int = 4,
    detector: Detector | None = None,
    networks: ImageNetworks | None = None,
    ground_truth: str = "annotation",
    rank: int = 0,
    world_size: int = 1,
    keep: int = 8,
    on_picture: Callable[[Picture], None] | None = None,
) -> Measurement:
    """Generate a person for the caption and pose of every sample, and measure how well the images follow.

    Exchanges nothing with other ranks.

    Args:
        sampler: makes the pictures.
        samples: the same ones on every rank; a rank takes every ``world_size``-th.
        batch_size: images sampled at a time.
        detector: finds poses in images; without it the metrics of poses are skipped.
        networks: judge images; without them FID, KID and CLIPSIM are skipped.
        ground_truth: one of :data:`GROUND_TRUTHS`.
        rank: of this process.
        world_size: number of processes over which the numbers are reduced.
        keep: pictures to keep for a table.
        on_picture: called with every picture of this rank.

    Raises:
        ValueError: ``ground_truth`` is another word.
    """
    if ground_truth not in GROUND_TRUTHS:
        raise ValueError(f"ground_truth must be one of {GROUND_TRUTHS}, not {ground_truth!r}")
    suite = Suite(_device(sampler, world_size), networks)

    def measure_pictures(pictures: list[Picture]) -> None:
        found = truth = [picture.sample.pose for picture in pictures]
        if detector is not None:
            found, truth = measure_poses(suite, pictures, detector, ground_truth, sampler.size)
        measure_images(suite, pictures, found, truth)

    parts = batches(samples, batch_size, rank, world_size)
    made = _run(parts, sampler.make, suite, measure_pictures, keep, on_picture)
    protocol = sampler.protocol() | {
        "image_size": sampler.size,
        "ground_truth": ground_truth,
        "detect_size": max(DETECT_SIZE, sampler.size),
        "metrics": POSE_METRICS,
        "remarks": dict(made.remarks),
    }
    absent = "no pose detector was given" if detector is None else "no sample has what it is measured on"
    return Measurement(suite, protocol, *made[:3], _NO_NETWORKS, absent)


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
    made = _run(batches(samples, batch_size, rank, world_size), make, suite, lambda pictures: None, keep, None)
    protocol = {"seed": seed, "crops": asdict(crops), "sampling": asdict(sampling)}
    return Measurement(suite, protocol, *made[:3], otherwise="stage I alone makes no picture of a person")


class _Made(NamedTuple):
    """The pictures to keep, how many masks stage I made of which how many were empty, and remarks by kind."""

    pictures: list[Picture]
    masks: int
    empty_masks: int
    remarks: Counter[str]


def _run(
    parts: Iterable[list[Indexed]],
    make: Callable[[list[Indexed]], list[Picture]],
    suite: Suite,
    measure: Callable[[list[Picture]], None],
    keep: int,
    on_picture: Callable[[Picture], None] | None,
) -> _Made:
    """Make and measure every picture; the first ``keep`` are kept."""
    kept: list[Picture] = []
    masks = empty = 0
    remarks: Counter[str] = Counter()
    with preserved_rng(), torch.no_grad():
        measure([])  # a rank without samples takes part in the reduction
        suite.add_images(0)
        suite.add_masks(torch.zeros(0, 1, 1, 1), torch.zeros(0, 1, 1, 1))
        for part in parts:
            pictures = make(part)
            measure(pictures)
            suite.add_images(len(pictures))
            for picture in pictures:
                suite.add_masks(picture.masks, picture.true_masks)
                masks += len(picture.masks)
                empty += int((picture.masks <= 0.5).flatten(1).all(dim=1).sum())
                remarks.update(remark.partition(":")[0] for remark in picture.remarks)
                if on_picture is not None:
                    on_picture(picture)
            kept += pictures[: keep - len(kept)]
    return _Made(kept, masks, empty, remarks)


def _device(maker: Any, world_size: int) -> torch.device | str:
    """Where sums are kept: ranks on GPUs can only reduce what lies there."""
    return maker.device if world_size > 1 and maker.device.type == "cuda" else "cpu"

"""Sampling and measuring (Section IV-C): the one loop behind the training callback and the command.

A picture's noise follows from the seed and the picture's index, so pictures depend neither on the batch size nor on
the number of ranks. The global random state is left as it was, so that evaluating does not change training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from h2d.data.schema import Sample
from h2d.data.shards import iter_samples, read_manifests
from h2d.detection import DETECT_SIZE, Detector, PoseDetector
from h2d.errors import ConfigError, DataError
from h2d.experiment import Experiment, SamplingConfig
from h2d.measurements import Evaluation, Measurement, measure_images, measure_poses
from h2d.metrics.image_suite import ImageNetworks
from h2d.metrics.suite import Suite
from h2d.pictures import HandCrops, Indexed, Picture, batches, sample_hands, sample_people
from h2d.pipelines.hand import HandPipeline
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.randomness import preserved_rng
from h2d.reports import Report

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


def evaluate(pipeline: TwoStagePipeline, samples: Iterable[Sample], **options: Any) -> Evaluation:
    """:func:`measure`, and the numbers over all ranks; arguments and errors are the same."""
    return measure(pipeline, samples, **options).compute()


def evaluate_hands(pipeline: HandPipeline, samples: Iterable[Sample], **options: Any) -> Evaluation:
    """:func:`measure_hands`, and the numbers over all ranks; arguments are the same."""
    return measure_hands(pipeline, samples, **options).compute()


def measure(
    pipeline: TwoStagePipeline,
    samples: Iterable[Sample],
    *,
    seed: int,
    sampling: SamplingConfig,
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
        pipeline: both stages.
        samples: the same ones on every rank; a rank takes every ``world_size``-th.
        seed: of the pictures.
        sampling: settings of the pipeline.
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
    crops = HandCrops.of(pipeline)
    suite = Suite(_device(pipeline, world_size), networks)

    def measure_pictures(pictures: list[Picture]) -> None:
        found = truth = [picture.sample.pose for picture in pictures]
        if detector is not None:
            found, truth = measure_poses(suite, pictures, detector, ground_truth, crops.size)
        measure_images(suite, pictures, found, truth)

    parts = batches(samples, batch_size, rank, world_size)
    make = partial(sample_people, pipeline, seed=seed, settings=sampling)
    made = _run(parts, make, suite, measure_pictures, keep, on_picture)
    protocol = {
        "seed": seed,
        "image_size": crops.size,
        "ground_truth": ground_truth,
        "detect_size": max(DETECT_SIZE, crops.size),
        "sampling": asdict(sampling) | {"blend": _blend(pipeline)},
        "hand_crops": asdict(crops),
        "metrics": POSE_METRICS,
    }
    absent = "no pose detector was given" if detector is None else "no sample has what it is measured on"
    return Measurement(suite, protocol, *made, _NO_NETWORKS, absent)


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
    return Measurement(suite, protocol, *made, otherwise="stage I alone makes no picture of a person")


class _Made(NamedTuple):
    """The pictures to keep, and how many masks stage I made of which how many were empty."""

    pictures: list[Picture]
    masks: int
    empty_masks: int


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
                if on_picture is not None:
                    on_picture(picture)
            kept += pictures[: keep - len(kept)]
    return _Made(kept, masks, empty)


def _device(pipeline: Any, world_size: int) -> torch.device | str:
    """Where sums are kept: ranks on GPUs can only reduce what lies there."""
    return pipeline.device if world_size > 1 and pipeline.device.type == "cuda" else "cpu"


def run_evaluation(experiment: Experiment, pipeline_folder: Path) -> str:
    """Evaluate a pipeline folder on a split and leave everything in the run's folder.

    Args:
        experiment: names the data, the split, the sampling and the run.
        pipeline_folder: as ``h2d export`` wrote it.

    Returns:
        The numbers as a table, to print.

    Raises:
        ConfigError: the run's folder holds an evaluation, or the pipeline was trained for another blending.
        DataError: the split has fewer samples than are asked for.
        H2DError: the pipeline or the data is not what it should be.
    """
    settings, shards = experiment.evaluation, experiment.data.shards
    total = _total(experiment)
    samples = islice(iter_samples(shards, settings.split), total)
    report = Report(experiment, pipeline_folder, total)
    pipeline = _load(pipeline_folder, experiment)
    detecting = PoseDetector() if settings.detector == "mediapipe" else nullcontext()
    with detecting as detector, ImageNetworks.load(pipeline.device) as networks:
        evaluation = evaluate(
            pipeline,
            report.progress(samples),
            seed=experiment.seed,
            sampling=experiment.sampling,
            batch_size=settings.batch_size,
            detector=detector,
            networks=networks,
            keep=settings.grid_samples,
            on_picture=report.add,
        )
    return report.write(evaluation)


def _total(experiment: Experiment) -> int:
    """Number of samples to evaluate: numbers over a part never pass for those over all that were asked for."""
    settings, shards = experiment.evaluation, experiment.data.shards
    counts = read_manifests(shards).counts
    if settings.split not in counts:
        raise DataError(f"{shards} has no split {settings.split!r}", f"evaluation.split={' or '.join(counts)}")
    available = counts[settings.split]
    if settings.samples > available:
        problem = f"the split {settings.split!r} of {shards} has {available} samples, not {settings.samples}"
        raise DataError(problem, "lower evaluation.samples, or -1 for all")
    return available if settings.samples == -1 else settings.samples


def _load(folder: Path, experiment: Experiment) -> TwoStagePipeline:
    pipeline = TwoStagePipeline.from_pretrained(folder)
    if (blend := _blend(pipeline)) != experiment.sampling.blend:
        raise ConfigError(
            f"{folder} was trained with blend={blend}, not {experiment.sampling.blend}", f"set sampling.blend={blend}"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def _blend(pipeline: Any) -> str:
    return pipeline.config["blend"]

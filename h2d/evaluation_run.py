"""``h2d evaluate``: one system on a split of the data, with everything that belongs to the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch

from h2d.baselines import load_system
from h2d.calibration import ALTERATIONS, Copies
from h2d.data.dataset import ShardDataset
from h2d.data.shards import iter_samples, read_manifests
from h2d.detection import PoseDetector
from h2d.errors import ConfigError, DataError
from h2d.evaluation import evaluate
from h2d.experiment import Experiment
from h2d.metrics.image_suite import ImageNetworks
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.reports import Report
from h2d.samplers import Compared, Sampler, TwoStages


@dataclass(frozen=True)
class Candidate:
    """What is evaluated: a pipeline folder that ``h2d export`` wrote, a compared system, or copies of the photographs.

    Args:
        pipeline: the folder, for method "h2d".
        method: "h2d", one of :data:`h2d.baselines.SYSTEMS`, or one of :data:`h2d.calibration.ALTERATIONS`.
        preset: of a compared system, see :mod:`h2d.baselines.presets`.
        places: where its weights are, by key of :data:`h2d.baselines.places.PLACES`.
    """

    pipeline: Path | None = None
    method: str = "h2d"
    preset: str = "uniform"
    places: Mapping[str, str] = field(default_factory=dict)

    def load(self, experiment: Experiment) -> Sampler:
        """The networks, on the GPU where there is one.

        Raises:
            ConfigError: method and pipeline do not go together, or the pipeline was trained for another blending.
            H2DError: weights are missing, or not what they should be.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.method == "h2d":
            if self.pipeline is None:
                raise ConfigError("--method h2d needs a pipeline", "name its folder with --pipeline")
            return TwoStages(_load(self.pipeline, experiment).to(device), experiment.seed, experiment.sampling)
        if self.pipeline is not None:
            raise ConfigError(f"--method {self.method} has no pipeline folder", "leave --pipeline out")
        size = experiment.image_size
        if self.method in ALTERATIONS:
            data = ShardDataset(experiment.data.shards, experiment.evaluation.split, lambda raw, draw: dict(raw))
            return Copies(self.method, data, experiment.seed, size)
        system = load_system(self.method, self.preset, size, device, places=self.places)
        return Compared(system, experiment.seed, size, device)


def run_evaluation(experiment: Experiment, candidate: Candidate) -> str:
    """Evaluate on a split and leave everything in the run's folder.

    Args:
        experiment: names the data, the split, the sampling and the run.
        candidate: what is evaluated.

    Returns:
        The numbers as a table, to print.

    Raises:
        ConfigError: the run's folder holds an evaluation.
        DataError: the split has fewer samples than are asked for.
        H2DError: see :meth:`Candidate.load`; or the data is not what it should be.
    """
    settings, shards = experiment.evaluation, experiment.data.shards
    total = _total(experiment)
    samples = islice(iter_samples(shards, settings.split), total)
    report = Report(experiment, candidate.pipeline, total)
    sampler = candidate.load(experiment)
    detecting = PoseDetector() if settings.detector == "mediapipe" else nullcontext()
    with detecting as detector, ImageNetworks.load(sampler.device) as networks:
        evaluation = evaluate(
            sampler,
            report.progress(samples),
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
    pipeline: TwoStagePipeline = TwoStagePipeline.from_pretrained(folder)
    if (blend := pipeline.config["blend"]) != experiment.sampling.blend:
        raise ConfigError(
            f"{folder} was trained with blend={blend}, not {experiment.sampling.blend}", f"set sampling.blend={blend}"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

"""What can be evaluated, by name: the method and its blending strategies, compared systems, altered photographs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import torch

from h2d.baselines import SYSTEMS, load_system, missing
from h2d.baselines.presets import UNIFORM
from h2d.data.dataset import ShardDataset
from h2d.errors import ConfigError, SetupError
from h2d.evaluation.calibration import ALTERATIONS, Copies
from h2d.evaluation.samplers import Compared, Sampler, TwoStages
from h2d.experiment import Experiment, SamplingConfig
from h2d.pipelines.checksums import checksums
from h2d.pipelines.two_stage import TwoStagePipeline

OURS = "h2d"
STRATEGIES: tuple[str, ...] = get_args(get_type_hints(SamplingConfig)["blending"])
"""The method with another blending than ``sampling.blending`` says (Section IV-E)."""
ALL = "all"
"""The method, where a pipeline is given, and every compared system whose weights are on this machine."""
METHODS = (OURS, *STRATEGIES, *SYSTEMS, *ALTERATIONS)


@dataclass(frozen=True)
class Candidate:
    """One system to evaluate.

    Args:
        method: one of :data:`METHODS`.
        pipeline: folder that ``h2d export`` wrote, or a hub id, for the method and its strategies.
        preset: of a compared system, see :mod:`h2d.baselines.presets`.
        places: where its weights are, by key of :data:`h2d.baselines.places.PLACES`.
    """

    method: str
    pipeline: str | None = None
    preset: str = "uniform"
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        """Side of its pictures in pixels; None where ``image_size`` decides.

        Raises:
            CheckpointError: the folder holds no pipeline.
        """
        if self.pipeline is None:
            return None
        return int(TwoStagePipeline.load_config(TwoStagePipeline.find_folder(self.pipeline))["image_size"])

    @property
    def name(self) -> str:
        """Of its folder and its row in a table."""
        return f"{self.method}-{self.preset}" if self.method in SYSTEMS else self.method

    def facts(self) -> dict[str, Any]:
        """What decides its pictures and is known without loading it."""
        if self.pipeline is not None:
            files = checksums(TwoStagePipeline.find_folder(self.pipeline))
            return {"method": self.method, "pipeline": self.pipeline, "files": files}
        if self.method in SYSTEMS:
            return {"method": self.method, "preset": self.preset, "places": dict(self.places)}
        return {"method": self.method}

    def load(self, experiment: Experiment, data: ShardDataset) -> Sampler:
        """The networks, on the GPU where there is one.

        Args:
            experiment: seed, size and sampling.
            data: the split, whose photographs the alterations show.

        Raises:
            ConfigError: the pipeline was trained for another blending.
            H2DError: weights are missing, or not what they should be.
        """
        device, size = own_device(), experiment.image_size
        if self.method in ALTERATIONS:
            return Copies(self.method, data, experiment.seed, size)
        if self.method in SYSTEMS:
            ours = experiment.sampling
            uniform = replace(
                UNIFORM, steps=ours.num_inference_steps, guidance=ours.guidance_scale, negative=ours.negative_prompt
            )
            system = load_system(self.method, self.preset, size, device, places=self.places, uniform=uniform)
            return Compared(system, experiment.seed, size, device)
        assert self.pipeline is not None
        sampling = experiment.sampling
        if self.method in STRATEGIES:
            sampling = replace(sampling, blending=self.method)  # type: ignore[arg-type]
        return TwoStages(_load(self.pipeline, experiment).to(device), experiment.seed, sampling)


def candidates(
    methods: str, pipeline: str | None, preset: str, places: Mapping[str, str]
) -> tuple[list[Candidate], list[str]]:
    """The systems that are to be evaluated, and the names of those that are left out because they lack weights.

    Args:
        methods: names of :data:`METHODS` with commas between them, or :data:`ALL`.
        pipeline: of the method; the others do without.
        preset: of the compared systems.
        places: where their weights are.

    Raises:
        ConfigError: a name is unknown or comes twice, there is no pipeline for the method, or nothing is left.
        SetupError: systems that are named lack weights; all of them are told.
    """
    names = [name.strip() for name in methods.split(",")]
    left_out: list[str] = []
    if names == [ALL]:
        left_out = [name for name in SYSTEMS if missing(name, places)]
        names = [OURS] * (pipeline is not None) + [name for name in SYSTEMS if name not in left_out]
        if not names:
            problem = "there is nothing to evaluate: no pipeline is named, and no compared system is on this machine"
            raise ConfigError(problem, "--pipeline names the folder that `h2d export` wrote; see `h2d doctor`")
    if ALL in names:
        raise ConfigError(f"{ALL} stands alone, not in {methods!r}", "name the methods one by one")
    for name in names:
        if name not in METHODS:
            near = get_close_matches(name, METHODS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join((ALL, *METHODS))}"
            raise ConfigError(f"there is no method {name!r}", hint)
    if len(set(names)) < len(names):
        raise ConfigError(f"a method comes twice in {methods!r}", "name each once")
    ours = [name for name in names if name in (OURS, *STRATEGIES)]
    if ours and pipeline is None:
        raise ConfigError(f"method {ours[0]} needs a pipeline", "name its folder with --pipeline")
    if lines := [f"{name}: {line}" for name in names if name in SYSTEMS for line in missing(name, places)]:
        raise SetupError("\n".join(lines), "--place KEY=PATH names what is somewhere else; the key is in parentheses")
    return [_candidate(name, pipeline, preset, places) for name in names], left_out


def own_device() -> torch.device:
    """The GPU of this process: that of its number on the node, as Slurm and torchrun tell it; the CPU without any."""
    count = torch.cuda.device_count()
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    return torch.device("cuda", int(local) % count) if count else torch.device("cpu")


def _candidate(name: str, pipeline: str | None, preset: str, places: Mapping[str, str]) -> Candidate:
    if name in SYSTEMS:
        return Candidate(name, None, preset, places)
    return Candidate(name, None if name in ALTERATIONS else pipeline)


def _load(folder: str, experiment: Experiment) -> TwoStagePipeline:
    pipeline: TwoStagePipeline = TwoStagePipeline.from_pretrained(folder)
    if (blend := pipeline.config["blend"]) != experiment.sampling.blend:
        raise ConfigError(
            f"{folder} was trained with blend={blend}, not {experiment.sampling.blend}", f"set sampling.blend={blend}"
        )
    pipeline.to_channels_last()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

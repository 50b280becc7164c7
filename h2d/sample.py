"""One picture from one pose: ``h2d sample``."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from h2d.data.square import square_sample
from h2d.errors import ConfigError, SetupError
from h2d.experiment import MAX_STEPS, SamplingConfig
from h2d.files import make_folder, write_atomic
from h2d.grids import labelled_grid
from h2d.images import encode_png
from h2d.pictures import Picture, sample_people
from h2d.pipelines.loading import load_pipeline
from h2d.pose_sources import read_pose
from h2d.runs import provenance

DEFAULT_PROMPT = "a photo of a person"
CELL = 256


@dataclass(frozen=True)
class SampleRequest:
    """What ``h2d sample`` was asked for; see its ``--help``."""

    pipeline: Path
    pose: str
    prompt: str | None
    blending: str
    seed: int
    steps: int
    guidance: float
    start_radius: float
    device: str
    out: Path


def sample(request: SampleRequest) -> Path:
    """Generate and write ``result.png``, ``stages.png`` (what each stage saw and made) and ``sample.json``.

    Raises:
        H2DError: the pipeline or the pose is not what it should be, or a number is out of range.
    """
    settings = _settings(request)
    source = read_pose(request.pose)
    prompt = request.prompt if request.prompt is not None else source.caption or DEFAULT_PROMPT
    pipeline = load_pipeline(request.pipeline).to(_device(request.device))
    make_folder(request.out)
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    person = square_sample(replace(source, caption=prompt), int(pipeline.config["image_size"]))
    picture = sample_people(pipeline, [(0, person)], seed=request.seed, settings=settings)[0]
    _write(request, prompt, settings, picture)
    return request.out / "result.png"


def _settings(request: SampleRequest) -> SamplingConfig:
    defaults = SamplingConfig()
    if request.seed < 0:
        raise ConfigError(f"--seed has to be at least 0, not {request.seed}")
    if not defaults.unblended_last_steps < request.steps <= MAX_STEPS:
        raise ConfigError(
            f"--steps has to lie between {defaults.unblended_last_steps + 1} and {MAX_STEPS}, not {request.steps}",
            f"the last {defaults.unblended_last_steps} steps run without blending",
        )
    if not 0 <= request.guidance < math.inf:
        raise ConfigError(f"--guidance has to be a number of at least 0, not {request.guidance}")
    if not 0 <= request.start_radius < math.inf:
        raise ConfigError(f"--start-radius has to be a number of at least 0, not {request.start_radius}")
    return replace(
        defaults,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        start_radius_px=request.start_radius,
        blending=request.blending,  # type: ignore[arg-type]  # argparse checked the word
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # an AssertionError when torch was built without CUDA
        raise SetupError(f"--device {name}: {str(error).splitlines()[0]}", "use cpu or auto") from error


def _write(request: SampleRequest, prompt: str, settings: SamplingConfig, picture: Picture) -> None:
    panels = dict(picture.panels)
    if not panels["photograph"].any():  # a pose without a picture
        del panels["photograph"]
    record = {
        "prompt": prompt,
        "pose": request.pose,
        "pipeline": str(request.pipeline),
        "seed": request.seed,
        "sampling": vars(settings),
        "provenance": provenance(),
    }
    write_atomic(request.out / "stages.png", encode_png(labelled_grid([list(panels.values())], list(panels), CELL)))
    write_atomic(request.out / "sample.json", json.dumps(record, indent=2).encode() + b"\n")
    write_atomic(request.out / "result.png", encode_png(picture.image))

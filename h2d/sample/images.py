"""From the poses to the images and what goes with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from h2d.annotators.device import Batches, find_device
from h2d.errors import ConfigError, SetupError
from h2d.files import sha256_of, write_atomic
from h2d.grids import labelled_grid
from h2d.images import encode_png
from h2d.networks.base import make_sampler
from h2d.pictures import person_panels
from h2d.pipelines.checksums import NAME as CHECKSUMS
from h2d.pipelines.two_stage import TwoStageOutput, TwoStagePipeline
from h2d.randomness import picture_generator
from h2d.remarks import Remarks
from h2d.runs import provenance
from h2d.sample.jobs import Job
from h2d.sample.request import SampleRequest

CELL = 256
MEMORY_HINT = "use --offload, --dtype bfloat16, or a smaller --height and --width"


def choose_device(request: SampleRequest) -> torch.device:
    """Where to sample.

    Raises:
        SetupError: it is not there, or cannot do what is asked for.
    """
    try:
        device = find_device(request.device)
    except SetupError as error:
        raise SetupError(f"--{error.message}", error.hint) from error
    if request.offload and device.type == "cpu":
        raise SetupError("--offload needs a GPU, and the device is the CPU", "leave it out")
    return device


def generate(request: SampleRequest, jobs: Sequence[Job], device: torch.device) -> list[Path]:
    """``result.png``, ``stages.png`` and ``sample.json`` of every job.

    Raises:
        CheckpointError: the pipeline's folder is damaged.
        ConfigError: the scheduler does not fit.
        SetupError: there is not memory enough.
    """
    pipeline = _load(request, device)
    tasks = [(job, seed) for job in jobs for seed in request.seeds]
    with Remarks("h2d.pipelines").collected():  # they are said here, with the pose's name
        paths = Batches(request.batch_size, MEMORY_HINT).run(lambda batch: _batch(request, pipeline, batch), tasks)
    for job in jobs:
        _write_record(request, job, pipeline)
    return paths


def _load(request: SampleRequest, device: torch.device) -> TwoStagePipeline:
    pipeline = TwoStagePipeline.from_pretrained(request.pipeline, torch_dtype=getattr(torch, request.dtype))
    if request.scheduler is not None:
        pipeline.scheduler = make_sampler(pipeline.scheduler, request.scheduler)
    if request.offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline = pipeline.to(device)
    pipeline.to_channels_last()
    pipeline.vae.enable_slicing()
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    return pipeline


def _batch(request: SampleRequest, pipeline: TwoStagePipeline, tasks: Sequence[tuple[Job, int]]) -> list[Path]:
    """Generate some images in one go, and write them."""
    scenes = [job.scene for job, _ in tasks]
    options: dict[str, Any] = {}
    if request.keep_hand:
        options["image"] = torch.stack([job.kept.image for job, _ in tasks])
        options["keep_mask"] = torch.stack([job.kept.mask for job, _ in tasks])
    if request.hand_mask is not None:
        options["hand_labels"] = np.stack([scene.hands for scene in scenes if scene.hands is not None])
    output = _call(
        pipeline,
        [job.prompt for job, _ in tasks],
        [scene.people for scene in scenes],
        height=scenes[0].image.shape[0],
        width=scenes[0].image.shape[1],
        generator=[picture_generator(seed, 0) for _, seed in tasks],
        output_type="pt",
        **_sampling(request, pipeline),
        **options,
    )
    return [_write(request, job, seed, output, row) for row, (job, seed) in enumerate(tasks)]


def _call(pipeline: TwoStagePipeline, *arguments: Any, **options: Any) -> TwoStageOutput:
    try:
        output = pipeline(*arguments, **options)
    except ValueError as error:  # some schedulers want more steps than others
        raise ConfigError(f"{type(pipeline.scheduler).__name__}: {error}", "use more --steps") from error
    assert isinstance(output, TwoStageOutput)
    return output


def _sampling(request: SampleRequest, pipeline: TwoStagePipeline) -> dict[str, Any]:
    """The arguments that are the same for all images, with the pipeline's own choice where there is no other."""
    asked = request.sampling
    return {name: pipeline.config[name] if value is None else value for name, value in asked.items()}


def _write(request: SampleRequest, job: Job, seed: int, output: TwoStageOutput, row: int) -> Path:
    for line in output.warnings[row]:
        if line not in job.warnings:
            job.warnings.append(line)
            print(f"warning: {job.source}, seed {seed}: {line}", file=sys.stderr, flush=True)
    panels = person_panels(output, row)
    if job.scene.has_picture:
        panels["photograph"] = job.scene.image
    ending = f"-{seed}.png" if request.count > 1 else ".png"
    result = job.folder / f"result{ending}"
    stages = labelled_grid([list(panels.values())], list(panels), CELL)
    write_atomic(job.folder / f"stages{ending}", encode_png(stages))
    write_atomic(result, encode_png(panels["result"]))
    return result


def _write_record(request: SampleRequest, job: Job, pipeline: TwoStagePipeline) -> None:
    """``sample.json``: every setting, as much as is needed to make the images again."""
    checksums = TwoStagePipeline.find_folder(request.pipeline) / CHECKSUMS
    height, width = job.scene.image.shape[:2]
    record = {
        "prompt": job.prompt,
        "pose": job.source,
        "people": len(job.scene.people),
        "size": [width, height],
        "seeds": list(request.seeds),
        "warnings": job.warnings,
        "sampling": {**_sampling(request, pipeline), "blend": pipeline.config["blend"], "eta": 0.0},
        "scheduler": {"class": type(pipeline.scheduler).__name__, **_plain(pipeline.scheduler.config)},
        "options": request.record(),
        "pipeline_sha256sums": sha256_of(checksums) if checksums.is_file() else None,
        "provenance": provenance(),
    }
    write_atomic(job.folder / "sample.json", json.dumps(record, indent=2).encode() + b"\n")


def _plain(config: Any) -> dict[str, Any]:
    return {key: value for key, value in sorted(dict(config).items()) if not key.startswith("_")}

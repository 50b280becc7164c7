"""Two-stage sampling in one batch, also with a quicker scheduler, and one image after the other, as a loop does it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path

import numpy as np
import torch

from h2d.annotators.device import find_device
from h2d.bench.clock import by_turns, clock_of, unit_of
from h2d.bench.report import Row, Table
from h2d.networks.base import make_sampler
from h2d.pipelines.two_stage import TwoStageOutput, TwoStagePipeline
from h2d.randomness import picture_generator
from h2d.skeleton import BODY_NAMES, HAND_SLICES, NUM_KEYPOINTS

ALONE = "one by one"
QUICK = "DPMSolverMultistep"
"""In half the steps."""


def bench_sampling(pipeline: Path, images: int, steps: int, rounds: int, device: str, dtype: str) -> Table:
    """Seconds of an image each way, by turns, and how far the images of a batch and of one by one lie apart.

    Raises:
        H2DError: the pipeline or the device is not there.
    """
    place = find_device(device)
    loaded = TwoStagePipeline.from_pretrained(pipeline, torch_dtype=getattr(torch, dtype)).to(place)
    loaded.to_channels_last()
    loaded.set_progress_bar_config(disable=True)
    bench = _Bench(loaded, images, steps, clock_of(place))
    quick = _Bench(_with(loaded, QUICK), images, max(2, steps // 2), clock_of(place))
    together, alone = bench.made(images), bench.made(1)  # to warm up
    apart = (together - alone).abs().max().item()
    batch = f"batch of {images}"
    ways = {
        batch: lambda: bench.timed(images),
        f"{batch}, {QUICK}": lambda: quick.timed(images),
        ALONE: lambda: bench.timed(1),
    }
    timings = by_turns(ways, rounds)
    rows = [
        Row(name, timing, {"images/s": 1 / timing.median, "ratio": timings[ALONE].median / timing.median})
        for name, timing in timings.items()
    ]
    notes = [
        f"{dtype}, {steps} steps of each stage ({QUICK}: {quick.steps}), guidance, two hands each",
        "ratio: images in the time of one alone",
        f"largest difference of a pixel between the batch and one by one: {255 * apart:.3f} of 255",
    ]
    return Table("image", unit_of(place), rows, notes)


def _with(pipeline: TwoStagePipeline, scheduler: str) -> TwoStagePipeline:
    """The same networks with another scheduler."""
    other = copy(pipeline)
    other.scheduler = make_sampler(pipeline.scheduler, scheduler)
    return other


class _Bench:
    """The same images, however many at a time."""

    def __init__(self, pipeline: TwoStagePipeline, images: int, steps: int, now: Callable[[], float]) -> None:
        self.pipeline, self.images, self.steps, self.now = pipeline, images, steps, now
        self.poses = np.stack([_pose(pipeline.config["image_size"], seed) for seed in range(images)])

    def made(self, size: int) -> torch.Tensor:
        """All images ``(N, 3, S, S)`` on the CPU, ``size`` at a time."""
        starts = range(0, self.images, size)
        return torch.cat([self._images(range(first, min(first + size, self.images))) for first in starts])

    def timed(self, size: int) -> list[float]:
        """Seconds of an image."""
        start = self.now()
        self.made(size)
        return [(self.now() - start) / self.images]

    def _images(self, indices: range) -> torch.Tensor:
        output = self.pipeline(
            ["a person"] * len(indices),
            self.poses[indices.start : indices.stop],
            num_inference_steps=self.steps,
            generator=[picture_generator(0, index) for index in indices],
            output_type="pt",
        )
        assert isinstance(output, TwoStageOutput)
        return output.images.cpu()


def _pose(size: int, seed: int) -> np.ndarray:
    """Two hands of a quarter of the image, with arms: what a time depends on is their number."""
    rng = np.random.default_rng(seed)
    pose = np.zeros((NUM_KEYPOINTS, 3), np.float32)
    for hand, x in (("right", 0.25), ("left", 0.75)):
        pose[HAND_SLICES[hand], :2] = np.array([x, 0.5]) + rng.uniform(-0.08, 0.08, (21, 2))
        pose[HAND_SLICES[hand], 2] = 2
        for part, y in (("shoulder", 0.3), ("elbow", 0.7), ("wrist", 0.6)):
            pose[BODY_NAMES.index(f"{hand}_{part}")] = (x, y, 2)
    pose[:, :2] *= size
    return pose

"""Two-stage sampling in one batch against one image after the other, as a loop over a diffusers pipeline does it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import torch

from h2d.annotators.device import find_device
from h2d.errors import ConfigError
from h2d.pipelines.two_stage import TwoStageOutput, TwoStagePipeline
from h2d.randomness import picture_generator
from h2d.skeleton import BODY_NAMES, HAND_SLICES, NUM_KEYPOINTS


def measure(pipeline: Path, images: int, steps: int, rounds: int, device: str, dtype: str) -> str:
    """Images a second of both ways, their ratio and how far their images lie apart, as lines to print.

    Raises:
        ConfigError: a number is less than 1.
        H2DError: the pipeline or the device is not there.
    """
    for name, value in (("images", images), ("steps", steps), ("rounds", rounds)):
        if value < 1:
            raise ConfigError(f"--{name} has to be at least 1, not {value}")
    place = find_device(device)
    loaded = TwoStagePipeline.from_pretrained(pipeline, torch_dtype=getattr(torch, dtype)).to(place)
    loaded.set_progress_bar_config(disable=True)
    bench = _Bench(loaded, images, steps)
    together, alone = bench.timed(images), bench.timed(1)  # to warm up
    apart = (together[1] - alone[1]).abs().max().item()
    seconds: dict[int, list[float]] = {images: [], 1: []}
    for _ in range(rounds):
        for size, taken in seconds.items():
            taken.append(bench.timed(size)[0])
    rate = {size: images / statistics.median(taken) for size, taken in seconds.items()}
    return "\n".join(
        [
            f"{place_name(place)}, {dtype}, {torch.get_num_threads()} threads, {steps} steps, guidance, two hands each",
            f"batch of {images}: {rate[images]:.3f} images/s",
            f"one by one: {rate[1]:.3f} images/s",
            f"ratio: {rate[images] / rate[1]:.2f} (median of {rounds}, by turns)",
            f"largest difference of a pixel: {255 * apart:.3f} of 255",
        ]
    )


def place_name(device: torch.device) -> str:
    """The name of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class _Bench:
    """The same images, however many at a time."""

    def __init__(self, pipeline: TwoStagePipeline, images: int, steps: int) -> None:
        self.pipeline, self.images, self.steps = pipeline, images, steps
        self.poses = np.stack([_pose(pipeline.config["image_size"], seed) for seed in range(images)])

    def timed(self, size: int) -> tuple[float, torch.Tensor]:
        """Seconds, and the images ``(N, 3, S, S)`` on the CPU."""
        start = time.perf_counter()
        made = [self._images(range(first, min(first + size, self.images))) for first in range(0, self.images, size)]
        return time.perf_counter() - start, torch.cat(made)

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

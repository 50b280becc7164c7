"""``h2d bench data``: training samples that one core loads in a second, from shards, from latents, and as others do."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from h2d.bench.clock import by_turns, clock_of, unit_of
from h2d.bench.report import Row, Table
from h2d.data.datamodule import ShardDataModule
from h2d.data.dataset import ShardDataset
from h2d.experiment import Experiment

SHARDS, LATENTS = "from shards", "from cached latents"
OTHERS, PILLOW = "picture alone, as diffusers' scripts load it", "picture alone, decoded by Pillow and no more"
_CPU = torch.device("cpu")


def bench_loading(experiment: Experiment, factor: int, latents: str | None, samples: int, rounds: int) -> Table:
    """CPU seconds of a training sample: read, checked, decoded, cut, augmented, drawn, and put into a batch.

    Args:
        experiment: of stage I or II.
        factor: image pixels per latent cell and side.
        latents: folder that ``h2d data latents`` made.
        samples: of a turn.
        rounds: of all ways.

    Raises:
        DataError: the shards or the latents are not what they should be.
    """
    here = replace(experiment, data=replace(experiment.data, num_workers=0, latents=None))
    ways: dict[str, Callable[[], Sequence[float]]] = {SHARDS: lambda: _loaded(here, factor, samples)}
    if latents is not None:
        cached = replace(here, data=replace(here.data, latents=latents))
        ways[LATENTS] = lambda: _loaded(cached, factor, samples)
    pictures = ShardDataset(experiment.data.shards, "train", lambda raw, draw: dict(raw))
    ways[OTHERS] = lambda: decoded(pictures, _as_others(experiment.image_size), samples)
    ways[PILLOW] = lambda: decoded(pictures, np.asarray, samples)
    for way in ways.values():
        way()  # files come into memory
    timings = by_turns(ways, rounds)
    unit = timings[PILLOW].median
    rows = [
        Row(name, timing, {"samples/s": 1 / timing.median, "decodings": timing.median / unit})
        for name, timing in timings.items()
    ]
    notes = [
        f"{here.task}, {here.image_size} px, batches of {here.micro_batch}, one process",
        "decodings: pictures that Pillow decodes in that time, a figure that processors agree on",
    ]
    return Table("sample", unit_of(_CPU), rows, notes)


def _loaded(experiment: Experiment, factor: int, samples: int) -> list[float]:
    """Seconds of a sample, in the loader that training has."""
    loader = ShardDataModule(experiment, factor).train_dataloader()
    batches, now = -(-samples // experiment.micro_batch), clock_of(_CPU)
    start = now()
    for _ in islice(loader, batches):
        pass
    return [(now() - start) / (batches * experiment.micro_batch)]


def _as_others(size: int) -> Callable[[Image.Image], Any]:
    """What torchvision makes of a picture in diffusers' scripts: resized, cut and normalised."""
    return transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )


def decoded(pictures: ShardDataset, treat: Callable[[Image.Image], Any], samples: int) -> list[float]:
    """Seconds of a picture that Pillow opens and something is made of."""
    now = clock_of(_CPU)
    start = now()
    for number in range(samples):
        raw = pictures.read(number % len(pictures))
        with Image.open(io.BytesIO(raw.get("jpg") or raw["png"])) as picture:
            treat(picture.convert("RGB"))
    return [(now() - start) / samples]

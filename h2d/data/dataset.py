"""The samples of a folder of shards by number: WebDataset's format, read in any order."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from h2d.data.index import ShardIndex
from h2d.data.order import Place
from h2d.data.shards import read_manifests
from h2d.errors import DataError

_PICTURE, _NOISE = 0, 1
"""Last number of the seed of a sample's crop and colours, and of its noise."""


class Draw(NamedTuple):
    """What is random about a sample: a function of the seed, the epoch and the sample's key alone."""

    epoch: int
    rng: np.random.Generator

    @classmethod
    def of(cls, seed: int, epoch: int, key: str) -> Draw:
        """The draw of a sample in an epoch."""
        return cls(epoch, np.random.default_rng([seed, epoch, zlib.crc32(key.encode()), _PICTURE]))


def noise_seed(seed: int, epoch: int | None, key: str) -> int:
    """Seed in [0, 2^63) of the noise, time step and dropout of a sample in an epoch, or in validation (None)."""
    numbers = [seed, 0 if epoch is None else epoch + 1, zlib.crc32(key.encode()), _NOISE]
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


Transform = Callable[[Mapping[str, Any], Draw | None], dict[str, Any]]
"""Turns the members of a sample into what a batch holds; there is no draw where nothing may be random."""


class ShardDataset(Dataset[dict[str, Any]]):
    """The samples of a split, laid end to end in the order of the manifest.

    An example holds what ``transform`` made of the sample, and ``noise_seed``.

    Args:
        folder: shards with their ``manifest.json``, or several such folders, see ``read_manifests``.
        split: of the manifest.
        transform: called with the members of a sample and its draw.
        seed: of the draws.

    Raises:
        DataError: no manifest, no samples, or a shard that does not hold what the manifest says.
    """

    def __init__(self, folder: Path | str, split: str, transform: Transform, *, seed: int = 0) -> None:
        manifest = read_manifests(folder)
        self.transform, self.seed = transform, seed
        shards = manifest.split(split)
        if not shards:
            raise DataError(f"{folder}: no samples in the split {split!r}", "prepare the data with more samples")
        self.shards = [ShardIndex(manifest.folder / shard.name, shard.count) for shard in shards]
        self.firsts = np.cumsum([0, *(len(shard) for shard in self.shards)])

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def __getitem__(self, place: Place) -> dict[str, Any]:
        raw = self.read(place.number)
        draw = None if place.epoch is None else Draw.of(self.seed, place.epoch, raw["__key__"])
        return self.transform(raw, draw) | {"noise_seed": noise_seed(self.seed, place.epoch, raw["__key__"])}

    def read(self, index: int) -> dict[str, Any]:
        """Undecoded members of a sample, by extension.

        Raises:
            DataError: names the shard, which has changed or is damaged.
        """
        number = int(np.searchsorted(self.firsts, index, side="right")) - 1
        return self.shards[number].read(index - int(self.firsts[number]))


class ShardLoader(DataLoader):
    """A loader whose errors read the same whether a worker or this process met them."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:
            raise _as_raised(error) from error


def _as_raised(error: DataError) -> DataError:
    """What a worker raised: torch puts the worker's whole traceback in place of the message and drops the hint."""
    lines = error.message.strip().splitlines()
    if len(lines) == 1:
        return error
    return DataError(lines[-1].partition(": ")[2], "`h2d data check` on the folder tells all")

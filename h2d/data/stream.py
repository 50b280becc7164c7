"""Shards as streams of samples whose order depends on nothing but the seed and the epoch.

The shards of a split, laid end to end, form one line of samples. Every epoch permutes the shards, cuts the line into
equal contiguous parts, one for each worker of each rank, and shuffles within a part. Many shards or a single one are
thus treated alike, and no sample is read twice or left out within an epoch.
"""

from __future__ import annotations

import itertools
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import webdataset as wds
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from webdataset import tariterators

from h2d.data.shards import ShardInfo, read_manifests
from h2d.errors import DataError

# The shards are data from elsewhere: no pickles, no commands in place of file names.
wds.utils.enforce_security = True


class Draw(NamedTuple):
    """What is random about a sample: a function of the seed, the epoch and the sample's key alone."""

    epoch: int
    rng: np.random.Generator

    @classmethod
    def of(cls, seed: int, epoch: int, key: str) -> Draw:
        """The draw of a sample in an epoch."""
        return cls(epoch, np.random.default_rng([seed, epoch, zlib.crc32(key.encode())]))


Transform = Callable[[Mapping[str, Any], Draw | None], dict[str, Any]]
"""Turns the members of a sample into what a batch holds; there is no draw where nothing may be random."""


class Span(NamedTuple):
    """The samples ``start <= i < stop`` of a shard."""

    shard: ShardInfo
    start: int
    stop: int


def spans(shards: Sequence[ShardInfo], start: int, stop: int) -> list[Span]:
    """The pieces of shards that make up ``start <= i < stop`` of all shards laid end to end."""
    pieces, first = [], 0
    for shard in shards:
        piece = Span(shard, max(start - first, 0), min(stop - first, shard.count))
        if piece.start < piece.stop:
            pieces.append(piece)
        first += shard.count
    return pieces


def read_spans(folder: Path, pieces: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """Undecoded samples of the pieces, in order.

    Raises:
        DataError: a shard is missing, damaged, or holds more or fewer samples than the manifest says. A tar with a
            damaged header reads to that point without any error, so the samples are counted.
    """
    for shard, start, stop in pieces:
        path, number = folder / shard.name, 0
        for raw in _read_shard(path):
            if start <= number < stop:
                yield raw
            number += 1
            if number == stop < shard.count:
                break
        if number < stop or number > shard.count:
            raise _damaged(path, f"holds {number} samples, its manifest says {shard.count}")


def _read_shard(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(path, "rb") as stream:  # WebDataset in its secure mode opens nothing itself
            source = [{"url": str(path), "stream": stream}]
            yield from tariterators.group_by_keys(tariterators.tar_file_expander(source))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error.args[0])
        raise _damaged(path, reason) from error


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: {reason}", f"copy or prepare the shards again; `h2d data check {path.parent}` tells all")


def _part(total: int, number: int, parts: int) -> tuple[int, int]:
    """Start and stop of one of several contiguous parts whose lengths differ by at most one."""
    return number * total // parts, (number + 1) * total // parts


def _worker() -> tuple[int, int]:
    info = get_worker_info()
    return (info.id, info.num_workers) if info else (0, 1)


class _Shards(IterableDataset):
    """What both streams share: the shards of a split, checked against the manifest."""

    def __init__(self, folder: Path | str, split: str, transform: Transform, rank: int, world_size: int) -> None:
        super().__init__()
        manifest = read_manifests(folder)
        self.folder, self.split, self.transform = manifest.folder, split, transform
        self.rank, self.world_size = rank, world_size
        self.shards = manifest.split(split)
        self.total = sum(shard.count for shard in self.shards)
        if not self.total:
            raise DataError(f"{folder}: no samples in the split {split!r}", "prepare the data with more samples")


class ShardStream(_Shards):
    """Endless training samples; epoch follows epoch without a gap, so every batch is full.

    Where a run stopped, another continues exactly: set ``start_batch`` to the number of batches that each rank has
    consumed. Exactness needs the same world size, worker count and batch size.

    Args:
        folder: shards with their ``manifest.json``, or several such folders, see ``read_manifests``.
        split: ``"train"``.
        transform: called with the members of a sample and its draw.
        seed: of the order and of the transform.
        shuffle_buffer: undecoded samples held by each worker; 1 keeps the order of the shards.
        batch_size: what the loader uses; only ``start_batch`` needs it.
        rank: of this process among ``world_size``.

    Raises:
        DataError: no manifest, no samples, or (while reading) a damaged shard.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str,
        transform: Transform,
        *,
        seed: int,
        shuffle_buffer: int,
        batch_size: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(folder, split, transform, rank, world_size)
        self.seed, self.shuffle_buffer, self.batch_size = seed, shuffle_buffer, batch_size
        self.start_batch = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, workers = _worker()
        # The loader asks its workers in turn. Batch `start_batch` belongs to another worker than batch 0 did, so each
        # worker takes the place of the one that would have been asked next.
        turn, place = divmod(self.start_batch + worker, workers)
        lane, lanes = self.rank * workers + place, self.world_size * workers
        skip = turn * self.batch_size
        for epoch in itertools.count():
            start, stop = _part(self.total, (lane + epoch) % lanes, lanes)
            if skip >= stop - start:
                skip -= stop - start
                continue
            for raw in itertools.islice(self._epoch(epoch, start, stop), skip, None):
                yield self.transform(raw, Draw.of(self.seed, epoch, raw["__key__"]))
            skip = 0

    def _epoch(self, epoch: int, start: int, stop: int) -> Iterator[dict[str, Any]]:
        shards = list(self.shards)
        Random(f"shards {self.seed} {epoch}").shuffle(shards)
        read = partial(read_spans, self.folder, spans(shards, start, stop))
        random = Random(f"samples {self.seed} {epoch} {start}")
        return iter(wds.DataPipeline(read, wds.shuffle(self.shuffle_buffer, rng=random)))


class ShardSequence(_Shards):
    """Every sample of a split once and in order; the ranks share them without overlap or padding.

    The batches do not depend on the number of workers: each decodes every n-th batch of its rank's part.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str,
        transform: Transform,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(folder, split, transform, rank, world_size)
        self.batch_size = batch_size
        self.start, self.stop = _part(self.total, rank, world_size)

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, workers = _worker()
        for number, raw in enumerate(read_spans(self.folder, spans(self.shards, self.start, self.stop))):
            if number // self.batch_size % workers == worker:
                yield self.transform(raw, None)


class ShardLoader(DataLoader):
    """A loader whose errors read the same whether a worker or this process met them."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:
            raise _as_raised(error) from error


class ResumableLoader(ShardLoader):
    """A loader of a :class:`ShardStream` that asks, each time it is iterated, how many batches are already consumed."""

    def __init__(self, stream: ShardStream, position: Callable[[], int], **options: Any) -> None:
        super().__init__(stream, batch_size=stream.batch_size, **options)
        self._stream, self._position = stream, position

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._stream.start_batch = self._position()
        return super().__iter__()


def _as_raised(error: DataError) -> DataError:
    """What a worker raised: torch puts the worker's whole traceback in place of the message and drops the hint."""
    lines = error.message.strip().splitlines()
    if len(lines) == 1:
        return error
    return DataError(lines[-1].partition(": ")[2], "`h2d data check` on the folder tells all")

"""Which samples each batch holds: a function of the seed and the position alone.

The training samples are one endless line, epoch after epoch, each epoch a permutation. Optimiser step ``n`` takes the
places ``n G`` to ``(n + 1) G`` of that line, G being the global batch, however many ranks, workers and accumulated
batches share them out. A resumed run therefore goes on exactly, also on other machines than before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Place(NamedTuple):
    """A sample of a split by its number, and the epoch it is drawn in; no epoch where nothing may be random."""

    number: int
    epoch: int | None = None


class TrainingOrder(Sampler[list[Place]]):
    """Batches of one rank, without end.

    Args:
        total: samples of the split.
        seed: of the permutations.
        batch_size: samples of one rank at a time.
        rank: of this process.
        world_size: processes that share each batch.
        position: asked at the start of each iteration for the batches that every rank has consumed.
    """

    def __init__(
        self,
        total: int,
        *,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], int] = lambda: 0,
    ) -> None:
        self.total, self.seed, self.batch_size = total, seed, batch_size
        self.rank, self.world_size, self.position = rank, world_size, position

    def __iter__(self) -> Iterator[list[Place]]:
        epoch, permutation = -1, np.empty(0, np.int64)
        for number in itertools.count(self.position()):
            start = (number * self.world_size + self.rank) * self.batch_size
            batch = []
            for place in range(start, start + self.batch_size):
                if place // self.total != epoch:
                    epoch = place // self.total
                    permutation = np.random.default_rng([self.seed, epoch]).permutation(self.total)
                batch.append(Place(int(permutation[place % self.total]), epoch))
            yield batch


class ValidationOrder(Sampler[list[Place]]):
    """The first samples of a split in order, shared by the ranks without padding: each comes once.

    Args:
        total: samples to take.
        batch_size: samples of one rank at a time.
        rank: of this process.
        world_size: processes that share the samples.
    """

    def __init__(self, total: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.places = range(rank * total // world_size, (rank + 1) * total // world_size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.places) // self.batch_size)

    def __iter__(self) -> Iterator[list[Place]]:
        for start in range(0, len(self.places), self.batch_size):
            yield [Place(index) for index in self.places[start : start + self.batch_size]]

"""The long part of an evaluation: pictures and rows of every sample, shared by all processes that work at it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from h2d.data.dataset import ShardDataset
from h2d.data.schema import decode_sample
from h2d.evaluation.loop import Finder, look
from h2d.evaluation.rows import Store
from h2d.evaluation.samplers import Sampler
from h2d.evaluation.selection import Selection
from h2d.experiment import Experiment
from h2d.locks import Claims
from h2d.pictures import Indexed
from h2d.slurm import number_among_others

GOLDEN = 0.6180339887
"""Multiples of it fall far from each other on a circle, however many they are."""


class Making:
    """Makes the rows that a store lacks.

    Args:
        store: of the evaluation.
        data: the split.
        selection: of its samples.
        experiment: ``metrics.ground_truth`` and ``evaluation.grid_samples`` are used.
    """

    def __init__(self, store: Store, data: ShardDataset, selection: Selection, experiment: Experiment) -> None:
        self.store, self.data, self.batches = store, data, selection.batches
        self.ground_truth = experiment.metrics.ground_truth
        self.strips = frozenset(selection.numbers[: experiment.evaluation.grid_samples])

    def open_batches(self) -> list[int]:
        """Numbers of the batches that are not complete."""
        return [number for number, batch in enumerate(self.batches) if not self.store.has(number, batch)]

    def run(self, sampler: Sampler, detector: Finder | None, claims: Claims) -> None:
        """Make every row that is not there; returns when all are, whoever made them.

        Processes that work at the same time take different batches. One that finds the last ones taken waits for
        them, and does those of a process that died.
        """
        open_batches = self.open_batches()
        total, done = sum(map(len, self.batches)), sum(map(len, self.batches))
        done -= sum(len(self.batches[number]) for number in open_batches)
        open_batches = spread(open_batches, number_among_others())
        with _bar(total, done) as progress:
            while open_batches:
                taken: list[int] = []
                busy: list[int] = []
                for looks in look(
                    sampler.make, self._claimed(open_batches, claims, taken, busy), detector, self.ground_truth
                ):
                    number = taken.pop(0)
                    self.store.write(number, [one.row for one in looks], [one.picture for one in looks], self.strips)
                    claims.release(number)
                    progress.update(len(looks))
                if busy and claims.take(busy[0], wait=True):
                    claims.release(busy[0])
                open_batches = [number for number in busy if not self.store.has(number, self.batches[number])]

    def _claimed(
        self, numbers: Sequence[int], claims: Claims, taken: list[int], busy: list[int]
    ) -> Iterator[list[Indexed]]:
        """Samples of the batches that are ours, whose numbers go to ``taken``; those of others go to ``busy``."""
        for number in numbers:
            if not claims.take(number):
                busy.append(number)
            elif self.store.has(number, self.batches[number]):
                claims.release(number)
            else:
                taken.append(number)
                yield [(sample, decode_sample(self.data.read(sample))) for sample in self.batches[number]]


def spread(numbers: Sequence[int], place: int) -> list[int]:
    """The numbers, from another one on for each place: without file locks, processes then do little twice."""
    start = int(len(numbers) * (place * GOLDEN % 1))
    return [*numbers[start:], *numbers[:start]]


def _bar(total: int, done: int) -> tqdm:
    """Rate and remaining time on a terminal, or as a line a minute in a log."""
    quiet = 0.1 if sys.stderr.isatty() else 60.0
    return tqdm(total=total, initial=done, unit="image", mininterval=quiet, maxinterval=max(10.0, quiet), delay=quiet)

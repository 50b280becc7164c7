"""The share of a job that one of several commands does, each told its number from outside: job arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Slice:
    """One of ``count`` equal shares; ``number`` counts from 0, as ``SLURM_ARRAY_TASK_ID`` does."""

    number: int
    count: int

    @classmethod
    def read(cls, text: str) -> Slice:
        """``"3/16"`` as the fourth of sixteen shares; ValueError for anything else."""
        number, count = (int(part) for part in text.split("/"))
        if not 0 <= number < count:
            raise ValueError(text)
        return cls(number, count)

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every ``count``-th item."""
        return items[self.number :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

"""Which samples of a split are evaluated."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from h2d.data.allocation import allocate
from h2d.data.dataset import ShardDataset
from h2d.errors import ConfigError, DataError
from h2d.experiment import EvaluationConfig

_SHOWN = 3


@dataclass(frozen=True)
class Selection:
    """Samples by their numbers in the split, in ascending order, and the batches they are evaluated in.

    The batches are the same however often an evaluation is interrupted and whoever takes part in it, because the last
    bits of an image can depend on what else is in its batch.
    """

    numbers: tuple[int, ...]
    batch_size: int

    @property
    def batches(self) -> list[tuple[int, ...]]:
        """The samples of each batch."""
        return [self.numbers[first : first + self.batch_size] for first in range(0, len(self.numbers), self.batch_size)]


def select(data: ShardDataset, settings: EvaluationConfig, limit: int | None = None) -> Selection:
    """The samples that ``evaluation.ids``, ``evaluation.samples`` and ``evaluation.choose`` name.

    Args:
        data: the split.
        settings: of the evaluation.
        limit: as many in place of ``evaluation.samples``, or all where there are fewer.

    Raises:
        ConfigError: the list does not exist.
        DataError: the list names samples that the split has not, or there are fewer than asked for: numbers over a
            part never pass for those over all.
    """
    numbers = list(range(len(data))) if settings.ids is None else _listed(data, Path(settings.ids))
    total = settings.samples if limit is None else min(limit, len(numbers))
    if total > len(numbers):
        source = f"the split {settings.split!r}" if settings.ids is None else settings.ids
        raise DataError(f"{source} has {len(numbers)} samples, not {total}", "lower evaluation.samples, or -1 for all")
    if total != -1:
        numbers = _stratified(data, numbers, total) if settings.choose == "stratified" else numbers[:total]
    return Selection(tuple(numbers), settings.batch_size)


def _stratified(data: ShardDataset, numbers: Sequence[int], total: int) -> list[int]:
    """The first ones of each gesture, as many as its share in all of them."""
    gestures = [gesture_of(data, number) for number in numbers]
    left = Counter(allocate(total, Counter(gestures)))
    taken = []
    for number, gesture in zip(numbers, gestures, strict=True):
        if left[gesture] > 0:
            left[gesture] -= 1
            taken.append(number)
    return taken


def gesture_of(data: ShardDataset, number: int) -> str:
    """The gesture of a sample, "" where it is not known."""
    return str(json.loads(data.read(number)["json"]).get("gesture") or "")


def _listed(data: ShardDataset, path: Path) -> list[int]:
    """Numbers of the samples whose keys a file lists, one a line, in the order of the split."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"evaluation.ids={path} cannot be read: {error}", "a file with one key a line") from error
    wanted: dict[str, int] = {}
    for line, key in enumerate(lines, 1):
        if key and wanted.setdefault(key, line) != line:
            raise DataError(f"evaluation.ids={path}: line {line} repeats line {wanted[key]}: {key}", "remove one")
    numbers = [number for number in range(len(data)) if wanted.pop(data.read(number)["__key__"], None) is not None]
    if wanted or not numbers:
        shown = "; ".join(
            f"line {line}: {key}" for key, line in sorted(wanted.items(), key=lambda item: item[1])[:_SHOWN]
        )
        problem = (
            f"{len(wanted)} samples that it lists are not in the split: {shown}" if wanted else "it lists no sample"
        )
        raise DataError(f"evaluation.ids={path}: {problem}", "name the shards and the split that the list was made for")
    return numbers

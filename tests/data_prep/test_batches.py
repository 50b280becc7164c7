from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from data_prep.batches import BatchWorker
from data_prep.chunks import Failure, Members
from data_prep.worker import Item
from h2d.errors import DataError, SetupError
from h2d.images import ImageError


class Toy(BatchWorker):
    """Doubles numbers: they stand for images. What it is asked together is in ``asked``."""

    def __init__(self) -> None:
        super().__init__(group=3, threads=2)
        self.asked: list[list[int]] = []

    def read(self, item: Any) -> int:
        if item == 2:
            raise DataError("file changed: 2")
        if item == 3:
            raise ImageError("3.jpg", "truncated")
        return item

    def answer(self, inputs: list[int]) -> Sequence[str]:
        self.asked.append(inputs)
        if 7 in inputs:
            raise ValueError("cannot look at 7")
        if 99 in inputs:
            raise SetupError("the device is gone")
        return [str(2 * value) for value in inputs]

    def write(self, item: Item, given: int, answer: str) -> Members:
        if answer == "10":
            raise DataError("not credible: 5")
        return {"txt": f"{given} {answer}".encode()}


@pytest.fixture
def toy() -> Iterator[Toy]:
    toy = Toy()
    yield toy
    toy.close()


def test_every_image_is_written_or_rejected_alone(toy: Toy) -> None:
    items: Any = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    results = toy.prepare_all(items)
    assert results == [
        {"txt": b"0 0"}, {"txt": b"1 2"}, "file changed: 2", "cannot read: truncated", {"txt": b"4 8"},
        "not credible: 5", {"txt": b"6 12"}, "unexpected ValueError: cannot look at 7", {"txt": b"8 16"},
        {"txt": b"9 18"},
    ]  # fmt: skip
    assert [isinstance(result, Failure) for result in results] == [index in (3, 7) for index in items]
    assert toy.asked == [[0, 1], [4, 5], [6, 7, 8], [6], [7], [8], [9]]


def test_it_can_be_asked_again(toy: Toy) -> None:
    one: Any = [1]
    assert toy.prepare_all([]) == []
    assert toy.prepare_all(one) == toy.prepare_all(one) == [{"txt": b"1 2"}]


def test_what_concerns_every_image_stops_the_stage(toy: Toy) -> None:
    items: Any = [1, 99]
    with pytest.raises(SetupError, match="the device is gone"):
        toy.prepare_all(items)

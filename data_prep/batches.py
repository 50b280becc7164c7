"""Workers whose model looks at several images at once, while threads read the next ones and write the last ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from data_prep.chunks import Members, Result
from data_prep.worker import Item, Worker, attempt


class BatchWorker(Worker, ABC):
    """Reads, asks the model and writes; an image that cannot be read or written is rejected alone.

    Args:
        group: images that are asked about at once.
        threads: that read and write.
    """

    def __init__(self, group: int, threads: int) -> None:
        self._group = group
        self._pool = ThreadPoolExecutor(threads)

    @abstractmethod
    def read(self, item: Item) -> Any:
        """What the model needs of an image. Called in several threads.

        Raises:
            DataError: the image is rejected; the message is the reason.
        """

    @abstractmethod
    def answer(self, inputs: list[Any]) -> Sequence[Any]:
        """What the model says about each of several images."""

    @abstractmethod
    def write(self, item: Item, given: Any, answer: Any) -> Members:
        """What the stage adds to an image, from what was read and what was answered. Called in several threads.

        Raises:
            DataError: the image is rejected; the message is the reason.
        """

    def prepare_all(self, items: list[Item]) -> list[Result]:
        """See ``Worker``."""
        groups = [items[start : start + self._group] for start in range(0, len(items), self._group)]
        results: list[Future[Result]] = []
        reading = self._start_reading(groups[0]) if groups else []
        for group, following in zip(groups, [*groups[1:], []], strict=False):
            inputs = [future.result() for future in reading]
            reading = self._start_reading(following)
            answers = iter(self._answers([given for given in inputs if not isinstance(given, str)]))
            for item, given in zip(group, inputs, strict=True):
                answer = given if isinstance(given, str) else next(answers)
                results.append(self._pool.submit(self._finish, item, given, answer))
        return [future.result() for future in results]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _start_reading(self, items: list[Item]) -> list[Future[Any]]:
        return [self._pool.submit(attempt, self.read, item) for item in items]

    def _answers(self, inputs: list[Any]) -> list[Any]:
        """For each input its answer in a tuple, or why there is none: one bad image does not cost the others theirs."""
        answers: Any = attempt(self._wrapped, inputs)
        if not isinstance(answers, str):
            return answers
        if len(inputs) == 1:
            return [answers]
        return [answer for given in inputs for answer in self._answers([given])]

    def _wrapped(self, inputs: list[Any]) -> Any:
        return [(answer,) for answer in self.answer(inputs)]

    def _finish(self, item: Item, given: Any, answer: Any) -> Result:
        if isinstance(answer, str):
            return answer
        return attempt(lambda item: self.write(item, given, answer[0]), item)

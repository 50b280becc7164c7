"""What a stage is made of: workers that treat images, and nothing in an image that could stop them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from data_prep.chunks import Failure, Members, Result
from data_prep.job import Job
from data_prep.processes import time_limit
from data_prep.sources import Row
from h2d.errors import ConfigError, DataError, SetupError
from h2d.images import ImageError

SECONDS_PER_IMAGE = 300
"""After this a worker process counts as hung on an image."""

Input = TypeVar("Input")


@dataclass(frozen=True)
class Item:
    """An image of the index with what the earlier stages wrote about it."""

    row: Row
    members: Members


class Worker(ABC):
    """Treats the images of a chunk. Built once in each process that works, so this is where models are loaded."""

    @abstractmethod
    def prepare_all(self, items: list[Item]) -> list[Result]:
        """For each item its members, or why it is rejected. Nothing an image holds can stop a stage."""

    def close(self) -> None:  # noqa: B027  # most have nothing to free
        """Free what was built."""


class ImageWorker(Worker):
    """Treats images one by one."""

    @abstractmethod
    def prepare(self, item: Item) -> Members:
        """What the stage adds to an image.

        Raises:
            DataError: the image is rejected; the message is the reason.
        """

    def prepare_all(self, items: list[Item]) -> list[Result]:
        """See ``Worker``."""
        return [self._prepare(item) for item in items]

    def _prepare(self, item: Item) -> Result:
        with time_limit(SECONDS_PER_IMAGE):
            return attempt(self.prepare, item)


def attempt(prepare: Callable[[Input], Members], given: Input) -> Result:
    """What ``prepare`` makes of an image, or why it cannot. Errors that concern every image are raised."""
    try:
        return prepare(given)
    except ImageError as error:
        return Failure(f"cannot read: {error.reason}")
    except DataError as error:
        return error.message
    except (ConfigError, SetupError, MemoryError, ImportError):  # the last also of a Ctrl-C in the middle of an import
        raise
    except Exception as error:
        return Failure(f"unexpected {type(error).__name__}: {error}")


def never(job: Job) -> bool:
    """The stage may run in as many processes as there are."""
    return False


@dataclass(frozen=True)
class Stage:
    """A stage of the runner.

    Args:
        name: also its folder under ``out``.
        needs: the stages whose members it reads; its images are those that all of them wrote.
        build: makes its worker, in the process that works.
        depends: what its results depend on, by key; recorded so that results of different settings never mix.
        one_process: whether it must not run twice at a time (one model on one device).
        pays_from: number of images from which starting processes costs less than it saves.
    """

    name: str
    needs: tuple[str, ...]
    build: Callable[[Job], Worker]
    depends: Callable[[Job], dict[str, Any]]
    one_process: Callable[[Job], bool] = never
    pays_from: int = 0

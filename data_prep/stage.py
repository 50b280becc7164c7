"""The one runner of all stages that treat every image for itself.

The index is cut into chunks. A chunk's result is one tar file that appears under its name when it is complete, so a
stopped stage goes on where it was; every image of a chunk is either written or rejected with a reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.chunks import RECORD, Counts, Members, chunk_counts, chunk_path, keep_record, read_chunk, write_chunk
from data_prep.job import INDEX, Job
from data_prep.processes import BrokenProcessPool, in_processes, pool, time_limit
from data_prep.progress import Progress
from data_prep.sources import Row
from h2d.errors import ConfigError, DataError, SetupError
from h2d.files import sha256_of
from h2d.images import ImageError

SECONDS_PER_IMAGE = 300
"""After this a worker process counts as hung on an image."""


@dataclass(frozen=True)
class Item:
    """An image of the index with what the earlier stages wrote about it."""

    row: Row
    members: Members


class Worker:
    """Treats images one by one. Built once in each process that works, so this is where models are loaded."""

    def prepare(self, item: Item) -> Members:
        """What the stage adds to an image.

        Raises:
            DataError: the image is rejected; the message is the reason.
        """
        raise NotImplementedError

    def prepare_all(self, items: list[Item]) -> list[Members | str]:
        """For each item of a chunk its members, or why it is rejected. Nothing an image holds can stop a stage."""
        return [self._prepare(item) for item in items]

    def close(self) -> None:
        """Free what was built."""

    def _prepare(self, item: Item) -> Members | str:
        try:
            with time_limit(SECONDS_PER_IMAGE):
                return self.prepare(item)
        except ImageError as error:
            return f"cannot read: {error.reason}"
        except DataError as error:
            return error.message
        except (ConfigError, SetupError, MemoryError):
            raise
        except Exception as error:
            return f"unexpected {type(error).__name__}: {error}"


def never(job: Job) -> bool:
    """The stage may run in as many processes as there are."""
    return False


@dataclass(frozen=True)
class Stage:
    """A stage of the runner.

    Args:
        name: also its folder under ``out``.
        needs: the stages whose members it reads; the last one says which images there are.
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


@dataclass(frozen=True)
class Task:
    """A chunk, or in a rescue a single image of it."""

    stage: Stage
    job: Job
    number: int
    rows: tuple[Row, ...]


def run(stage: Stage, job: Job, later: Sequence[str] = ()) -> tuple[Counts, bool]:
    """Run what is left of a stage.

    Args:
        later: names of the stages that build on this one, for the hint of an error.

    Returns:
        the counts of the whole stage, and whether anything was left to do.

    Raises:
        ConfigError: earlier results were made with other settings or from another index.
        DataError: the stage before has not been run to its end.
    """
    folder = job.folder(stage.name)
    tasks = [Task(stage, job, number, tuple(rows)) for number, rows in chunks_of(job, stage.needs)]
    keep_record(folder, record(job, stage.needs, stage.depends(job)), later)
    left = [task for task in tasks if not chunk_path(folder, task.number).is_file()]
    images = sum(len(task.rows) for task in left)
    alone = stage.one_process(job) or images < stage.pays_from
    workers = 1 if alone else min(job.settings.workers, max(1, len(left)))
    with (
        Progress(stage.name, images) as progress,
        contextlib.closing(in_processes(work, left, workers, rescue)) as results,
    ):
        try:
            for task, result in results:
                counts = write_chunk(chunk_path(folder, task.number), task.rows, result)
                progress.add(len(task.rows), len(counts.rejected))
        finally:
            close_workers()
    return stage_counts(job, stage.name), bool(left)


def record(job: Job, needs: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """What a stage's results depend on: its settings and what it reads."""
    inputs = {f"of {name}": sha256_of(job.folder(name) / RECORD) for name in needs}
    return {"chunk_size": job.settings.chunk_size, "of index": sha256_of(job.out / INDEX)} | inputs | settings


def chunks_of(job: Job, needs: Sequence[str]) -> list[tuple[int, list[Row]]]:
    """The chunks of the index, numbered.

    Raises:
        DataError: there is no index, or one of the stages in ``needs`` has not been run to its end.
    """
    rows, size = job.rows(), job.settings.chunk_size
    chunks = list(enumerate(rows[start : start + size] for start in range(0, len(rows), size)))
    for name in needs:
        if not all(chunk_path(job.folder(name), number).is_file() for number, _ in chunks):
            hint = f"run `python -m data_prep {name} {job.dataset} ...`"
            raise DataError(f"{job.folder(name)} is not finished", hint)
    return chunks


def stage_counts(job: Job, name: str) -> Counts:
    """The counts of a finished stage."""
    total = Counts()
    for number, _ in chunks_of(job, (name,)):
        total.add(chunk_counts(chunk_path(job.folder(name), number)))
    return total


def read_members(job: Job, stages: Sequence[str], number: int) -> dict[str, Members]:
    """Members of the images of a chunk that every one of ``stages`` wrote, merged, in the order of the index."""
    first, *others = (read_chunk(chunk_path(job.folder(name), number)) for name in stages)
    for content in others:
        first = {key: first[key] | content[key] for key in first if key in content}
    return first


def work(task: Task) -> list[tuple[str, Members | str]]:
    """Treat a chunk in the process that works."""
    if task.stage.needs:
        members = read_members(task.job, task.stage.needs, task.number)
    else:
        members = {row.key: {} for row in task.rows}
    items = [Item(row, members[row.key]) for row in task.rows if row.key in members]
    worker = _worker(task)
    return [(item.row.key, result) for item, result in zip(items, worker.prepare_all(items), strict=True)]


def rescue(task: Task) -> list[tuple[str, Members | str]]:
    """Treat a chunk whose worker process died: every image in turn, so that only the deadly one is lost."""
    results: list[tuple[str, Members | str]] = []
    rows = list(task.rows)
    deaths = 0
    while rows:
        with contextlib.suppress(BrokenProcessPool), pool(1) as executor:
            while rows:
                single = Task(task.stage, task.job, task.number, (rows[0],))
                results += executor.submit(work, single).result()
                rows.pop(0)
        if rows:
            deaths += 1
            results.append((rows.pop(0).key, "the worker process died on it"))
        if deaths > 8 and deaths == len(results):
            raise SetupError(f"{task.stage.name}: worker processes die on every image", "try jobs=1 to see why")
    return results


def close_workers() -> None:
    """Free the workers of this process."""
    while _workers:
        _workers.popitem()[1].close()


_workers: dict[str, Worker] = {}


def _worker(task: Task) -> Worker:
    if task.stage.name not in _workers:
        _workers[task.stage.name] = task.stage.build(task.job)
    return _workers[task.stage.name]

"""The one runner of all stages that treat every image for itself.

The index is cut into chunks. A chunk's result is one tar file that appears under its name when it is complete, so a
stopped stage goes on where it was; every image of a chunk is either written or rejected with a reason. Several commands
may work in one folder at a time, on one machine or many: each takes chunks that nobody else is at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.chunks import (
    RECORD,
    Counts,
    Failure,
    Members,
    Result,
    chunk_path,
    keep_record,
    read_chunk,
    read_head,
    write_chunk,
)
from data_prep.job import INDEX, Job
from data_prep.processes import BrokenProcessPool, in_processes, pool
from data_prep.progress import Progress
from data_prep.sources import Row
from data_prep.worker import Item, Stage, Worker
from h2d.errors import DataError, SetupError
from h2d.files import sha256_of
from h2d.locks import Claims


@dataclass(frozen=True)
class Task:
    """What is left to do of a chunk."""

    stage: Stage
    job: Job
    number: int
    rows: tuple[Row, ...]


def run(stage: Stage, job: Job, later: Sequence[str] = (), *, retry: bool = False) -> tuple[Counts, bool]:
    """Run what is left of a stage, beside any other commands that do the same.

    Args:
        later: names of the stages that build on this one, for the hint of an error.
        retry: try images again that could not be judged.

    Returns:
        the counts of this command's share of the stage, and whether anything was left to do.

    Raises:
        ConfigError: earlier results were made with other settings or from another index.
        DataError: a stage before has not been run to its end.
    """
    folder, chunks = job.folder(stage.name), job.chunks()
    keep_record(folder, record(job, stage.needs, stage.depends(job)), later)
    left = {number: _left(stage, job, number, rows, retry=retry) for number, rows in chunks}
    waiting = [(number, rows) for number, rows in chunks if left[number] is not None]
    images, worked = sum(len(rows or ()) for rows in left.values()), bool(waiting)
    alone = stage.one_process(job) or images < stage.pays_from
    with Progress(stage.name, images) as progress, Claims(folder) as claims:
        while waiting:
            busy: list[tuple[int, list[Row]]] = []
            tasks = _claimed(stage, job, waiting, claims, busy, retry=retry)
            workers = 1 if alone else min(job.settings.workers, len(waiting))
            _do(tasks, dict(waiting), workers, claims, progress)
            waiting = busy
            if waiting:  # the other command is done with it, or dead, when its claim can be had
                claims.take(waiting[0][0], wait=True)
    return stage_counts(job, stage.name), worked


def _left(stage: Stage, job: Job, number: int, rows: Sequence[Row], *, retry: bool) -> tuple[Row, ...] | None:
    """The images of a chunk that the stage has not settled; None when the chunk is done."""
    path = chunk_path(job.folder(stage.name), number)
    given, settled = given_keys(job, stage.needs, number, rows), read_head(path).settled(retry=retry)
    left = tuple(row for row in rows if row.key in given and row.key not in settled)
    return left if left or not path.is_file() else None


def _claimed(
    stage: Stage,
    job: Job,
    chunks: Sequence[tuple[int, list[Row]]],
    claims: Claims,
    busy: list[tuple[int, list[Row]]],
    *,
    retry: bool,
) -> Iterator[Task]:
    """Tasks that are ours to do; chunks that another command is at are put into ``busy``."""
    for number, rows in chunks:
        if not claims.take(number):
            busy.append((number, rows))
        elif (left := _left(stage, job, number, rows, retry=retry)) is not None:
            yield Task(stage, job, number, left)
        else:
            claims.release(number)


def _do(tasks: Iterator[Task], rows: dict[int, list[Row]], workers: int, claims: Claims, progress: Progress) -> None:
    with contextlib.closing(in_processes(work, tasks, workers, rescue)) as results:
        try:
            for task, result in results:
                _finish(task, rows[task.number], dict(result))
                claims.release(task.number)
                progress.add(len(task.rows), sum(isinstance(value, str) for _, value in result))
        finally:
            close_workers()


def _finish(task: Task, rows: Sequence[Row], new: dict[str, Result]) -> None:
    """Write a chunk with what was known about its images before and what has been found now."""
    path = chunk_path(task.job.folder(task.stage.name), task.number)
    old: dict[str, Result] = {**read_head(path).reasons, **read_chunk(path)} if path.is_file() else {}
    given = given_keys(task.job, task.stage.needs, task.number, rows)
    write_chunk(path, [row for row in rows if row.key in given], old | new)


def record(job: Job, needs: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """What a stage's results depend on: its settings and what it reads."""
    for name in needs:
        if not (job.folder(name) / RECORD).is_file():
            raise unfinished(job, name)
    inputs = {f"of {name}": sha256_of(job.folder(name) / RECORD) for name in needs}
    return {"chunk_size": job.settings.chunk_size, "of index": sha256_of(job.out / INDEX)} | inputs | settings


def unfinished(job: Job, name: str) -> DataError:
    """The error for a stage that was not run to its end."""
    return DataError(f"{job.folder(name)} is not finished", f"run `python -m data_prep {name} {job.dataset} ...`")


def given_keys(job: Job, needs: Sequence[str], number: int, rows: Sequence[Row]) -> set[str]:
    """Keys of the images of a chunk that every one of the stages before has written.

    Raises:
        DataError: one of them has not been run to its end.
    """
    keys = {row.key for row in rows}
    for name in needs:
        path = chunk_path(job.folder(name), number)
        if not path.is_file():
            raise unfinished(job, name)
        keys &= set(read_head(path).written)
    return keys


def stage_counts(job: Job, name: str) -> Counts:
    """The counts of a stage as far as it has come, of a job of an array its share."""
    total = Counts()
    for number, _ in job.chunks():
        total.add(read_head(chunk_path(job.folder(name), number)).counts)
    return total


def open_chunks(job: Job, stages: Sequence[Stage]) -> int:
    """Number of chunks in which one of the stages has something left to do."""
    return sum(
        any(
            not all(chunk_path(job.folder(name), number).is_file() for name in (*stage.needs, stage.name))
            or _left(stage, job, number, rows, retry=False) is not None
            for stage in stages
        )
        for number, rows in job.chunks()
    )


def read_members(job: Job, stages: Sequence[str], number: int) -> dict[str, Members]:
    """Members of the images of a chunk that every one of ``stages`` wrote, merged, in the order of the index."""
    first, *others = (read_chunk(chunk_path(job.folder(name), number)) for name in stages)
    for content in others:
        first = {key: first[key] | content[key] for key in first if key in content}
    return first


def work(task: Task) -> list[tuple[str, Result]]:
    """Do a task in the process that works."""
    if not task.rows:
        return []
    members: dict[str, Members] = {}
    if task.stage.needs:
        members = read_members(task.job, task.stage.needs, task.number)
    items = [Item(row, members.get(row.key, {})) for row in task.rows]
    results = _worker(task).prepare_all(items)
    return [(row.key, result) for row, result in zip(task.rows, results, strict=True)]


def rescue(task: Task) -> list[tuple[str, Result]]:
    """Do a task whose worker process died: every image in turn, so that only the deadly one is lost."""
    results: list[tuple[str, Result]] = []
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
            results.append((rows.pop(0).key, Failure("the worker process died on it")))
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

"""Work in several processes that survives the death of any of them.

Processes are started afresh (never forked: MediaPipe aborts or hangs in a forked child), ignore Ctrl-C (their parent
ends them), end when their parent is gone, and may be watched: one that spends too long on an image ends itself, which
then counts as a death.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext
from typing import Any, TypeVar

from h2d.workers import start_worker

Task = TypeVar("Task")
Result = TypeVar("Result")

_in_worker = False


def in_processes(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    rescue: Callable[[Task], Result],
) -> Generator[tuple[Task, Result], None, None]:
    """Yield ``(task, work(task))`` as they finish; ``workers = 1`` works in this process.

    Args:
        work: a function of a module, run in a worker process.
        tasks: asked for the next one when a worker is free.
        rescue: called in this process for every task that was running when a worker died; it must not raise for that
            reason again.

    Exceptions of ``work`` come out of this generator.
    """
    queue = iter(tasks)
    if workers == 1:
        yield from ((task, work(task)) for task in queue)
        return
    upcoming = next(queue, None)
    while upcoming is not None:
        running: dict[Future[Result], Task] = {}
        with contextlib.suppress(BrokenProcessPool), pool(workers) as executor:
            while upcoming is not None or running:
                while upcoming is not None and len(running) < workers:
                    future = executor.submit(work, upcoming)
                    running[future], upcoming = upcoming, next(queue, None)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield running.pop(future), result
        for task in running.values():
            yield task, rescue(task)


@contextlib.contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh worker processes that are ended at once when the block fails."""
    before = {child.pid for child in multiprocessing.active_children()}
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(_cores(context, workers),)
    )
    try:
        yield executor
    except BaseException:
        for child in multiprocessing.active_children():
            if child.pid not in before:
                child.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this worker process if the block takes longer, even inside a native library. Does nothing elsewhere."""
    if not _in_worker:
        yield
        return
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _cores(context: SpawnContext, workers: int) -> Any:
    """A queue of the cores, one for each worker; None when there are more cores than workers.

    MediaPipe starts a thread for each core that it sees: with a process on each core that is a square of threads.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not cores or workers < len(cores):
        return None
    queue = context.SimpleQueue()
    for number in range(workers):
        queue.put(cores[number % len(cores)])
    return queue


def _start(cores: Any) -> None:
    global _in_worker
    _in_worker = True
    start_worker()
    if cores is not None and not cores.empty():
        os.sched_setaffinity(0, {cores.get()})
    # there is a process for each core, so each needs one thread
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(name, "1")

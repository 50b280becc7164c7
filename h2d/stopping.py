"""A batch system's request to stop, heard between two steps. Imports no torch.

The two signals are held back (blocked) instead of handled. So nothing is ever done inside a signal handler, where a
checkpoint would meet the collectives of other ranks; no loader worker runs a handler or dies; and a request that comes
before, during or after training is neither lost nor fatal. What starts before Python does the same with
``env --block-signal=USR1,TERM``.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from multiprocessing import resource_tracker
from typing import TypeVar

from h2d.errors import H2DError

REQUESTS = frozenset({signal.SIGUSR1, signal.SIGTERM})
"""Time is nearly up, as ``sbatch --signal=USR1@300`` announces it; preemption, or the end of the job."""

Item = TypeVar("Item")


class StoppedError(H2DError):
    """Work was left at a good place because a stop was requested: not done, not failed, to be started again."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


_noted: list[int] = []
"""Requests that came in the moment in which Python lets SIGTERM through."""


def hold_requests() -> None:
    """From now on requests wait until they are asked for, in this process and in everything that it starts."""
    signal.signal(signal.SIGTERM, lambda number, _: _noted.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)
    # Python 3.10 and 3.11 start a helper process along with the first worker and unblock SIGTERM then: better now
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)


def stop_requested() -> bool:
    """Whether a request waits; never after none were held."""
    return bool(_noted) or not REQUESTS.isdisjoint(signal.sigpending())


def until_requested(items: Iterable[Item]) -> Iterator[Item]:
    """The items, as long as nobody asks to stop.

    Raises:
        StoppedError: somebody does.
    """
    for item in items:
        if stop_requested():
            raise StoppedError("a stop was requested")
        yield item


def end_children() -> None:
    """Kill the child processes that are left: Python ends them with SIGTERM, which they hold back, and waits."""
    for child in multiprocessing.active_children():
        child.kill()

"""How long training takes, and how long of that it waits for data."""

from __future__ import annotations

import time
from collections.abc import Callable

from lightning.pytorch.profilers import Profiler

_FETCH = "train_dataloader_next"
"""End of the name under which Lightning tells its profiler that it fetches a training batch."""


class TrainingClock(Profiler):
    """Runs from the first fetch of a batch until it is stopped, and again from the next fetch on.

    The time of a fetch is time that training waits, at most: a device that still has work in its queue does not.

    Args:
        now: seconds, from any start.

    Attributes:
        seconds: run so far.
        waited: of these, in fetches.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self._now = now
        self.seconds = self.waited = 0.0
        self._since: float | None = None
        self._fetching = 0.0

    def start(self, action_name: str) -> None:
        """A fetch begins, or something else that does not matter here."""
        if action_name.endswith(_FETCH):
            self._fetching = self._now()
            if self._since is None:
                self._since = self._fetching

    def stop(self, action_name: str) -> None:
        """A fetch ends, or something else."""
        if action_name.endswith(_FETCH):
            self.waited += self._now() - self._fetching

    def lap(self, go_on: bool) -> None:
        """Count the time until now; stand still until the next fetch unless ``go_on``."""
        now = self._now()
        if self._since is not None:
            self.seconds += now - self._since
        self._since = now if go_on else None

    def reset(self) -> None:
        """Forget what was counted."""
        self.seconds = self.waited = 0.0

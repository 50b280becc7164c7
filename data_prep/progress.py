"""How far a stage is: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

LOG_EVERY_SECONDS = 20.0


class Progress:
    """Counts images of a stage. Use as a context manager."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total = name, total
        self.done = self.rejected = 0
        self._start = self._said = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, desc=self.name, unit="image", leave=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, read: int, rejected: int) -> None:
        """Report ``read`` more images, of which ``rejected`` were."""
        self.done += read
        self.rejected += rejected
        if self._bar is not None:
            self._bar.update(read)
            self._bar.set_postfix(rejected=self.rejected)
        elif time.monotonic() - self._said > LOG_EVERY_SECONDS:
            self._said = time.monotonic()
            rate = self.done / (self._said - self._start)
            left = (self.total - self.done) / rate if rate else 0
            print(
                f"{self.name}: {self.done}/{self.total} images, {self.rejected} rejected,"
                f" {rate:.1f} images/s, {left:.0f} s left",
                flush=True,
            )

"""Warnings of a part of the package, collected instead of printed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Remarks(logging.Handler):
    """Collects what loggers would print.

    Args:
        name: of the loggers' common parent.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._logger = logging.getLogger(name)
        self._fresh: dict[str, None] = {}
        self._known: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._fresh[record.getMessage()] = None

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Within the block nothing is printed."""
        propagate, self._logger.propagate = self._logger.propagate, False
        self._logger.addHandler(self)
        try:
            yield
        finally:
            self._logger.removeHandler(self)
            self._logger.propagate = propagate

    def news(self) -> list[str]:
        """Different lines that were collected since the last call and never before."""
        lines = [line for line in self._fresh if line not in self._known]
        self._known.update(lines)
        self._fresh.clear()
        return lines

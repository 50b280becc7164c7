"""Commands that work in one folder at the same time: what a killed one left is cleared away, and work is shared out.

Locks end with their process, however it ends; nothing here looks at a clock. On a file system without locks everything
still comes out right, because files appear complete or not at all and the same input gives the same bytes: work may
then be done twice, and leftovers stay.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from h2d.files import holding, leftovers, open_locks


@contextlib.contextmanager
def sharing(folder: Path, parts: Iterable[str]) -> Iterator[None]:
    """Work in a folder; it is made if missing. The first of several commands clears away what killed ones left.

    Args:
        folder: where the command works.
        parts: folders in it that may hold leftovers; its own are cleared too.

    Raises:
        SetupError: the folder cannot be written.
    """
    with open_locks(folder, ".lock") as file:
        with contextlib.suppress(OSError):  # somebody is at work, or there are no locks here
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(folder, *(folder / part for part in parts))
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, made if missing, for this command, and clear away what a killed one left anywhere in it.

    Raises:
        SetupError: another command works in the folder, or it cannot be written.
    """
    with holding(folder, "another command") as held:
        if held:
            _clear(folder, *(path for path in folder.rglob("*") if path.is_dir()))
        yield


def _clear(*folders: Path) -> None:
    for folder in folders:
        for leftover in leftovers(folder):
            leftover.unlink(missing_ok=True)


class Claims:
    """Which of several commands does which numbered part of a job. Use as a context manager.

    A claim is a lock on one byte of a file, which other machines see too where the file system has locks.
    """

    def __init__(self, folder: Path) -> None:
        self._file = open_locks(folder, ".claims")

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def take(self, number: int, *, wait: bool = False) -> bool:
        """Claim a part; False when another command has it. ``wait`` waits until that one is done or dead."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, number)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # no locks here
            return True
        return True

    def release(self, number: int) -> None:
        """Give a part back."""
        with contextlib.suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

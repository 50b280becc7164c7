"""One command at a time in a folder, and nothing left there of a killed one."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path

from h2d.errors import SetupError


@contextlib.contextmanager
def alone_in(folder: Path, leftovers: Sequence[str]) -> Iterator[None]:
    """Hold a folder for this command; it is made if missing.

    Args:
        folder: where the command works.
        leftovers: patterns, relative to the folder, of the half-written files that a killed command leaves.

    Raises:
        SetupError: another command works in the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise SetupError(f"cannot write to {folder}: {error.strerror}", "choose another out=") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"another command is at work in {folder}", "wait for it, or choose out=") from None
        except OSError:  # a file system without locks: then nothing may be cleared away either
            yield
            return
        for pattern in leftovers:
            for leftover in folder.glob(pattern):
                leftover.unlink(missing_ok=True)
        yield

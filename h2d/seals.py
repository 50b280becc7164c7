"""A checksum inside the file: a checkpoint is a ZIP archive, whose comment holds the SHA-256 of all bytes before it.

The file proves itself wherever it is copied to, and both appear at once. ``torch.load`` and ``unzip`` pass the comment
over. Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import BinaryIO

from h2d.errors import CheckpointError

_NAME = b"h2d sha256 "
_SIZE = len(_NAME) + 64
_BLOCK = 1 << 20
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class SealedFile:
    """What ``torch.save`` writes an archive into, from front to back, and the sum over it.

    Args:
        file: empty and open for writing.

    Attributes:
        failure: the error of the system, after which torch raises one of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.failure: OSError | None = None
        self._file = file
        self._digest = hashlib.sha256()
        self._last = b""  # the length of the comment, when the archive ends here

    def write(self, data: bytes | memoryview) -> int:
        """Take the next bytes."""
        view = memoryview(data)
        ready = (self._last, view[:-2]) if len(view) >= 2 else ((self._last + view)[:-2],)
        for part in ready:
            self._put(part)
        self._last = (self._last + view[-2:])[-2:]
        return len(view)

    def flush(self) -> None:
        """Nothing: what is held back follows with :meth:`seal`."""

    def seal(self) -> None:
        """End the archive with the comment, and bring all to the disk.

        Raises:
            OSError: there is no room.
        """
        assert self._last == b"\0\0", "torch.save writes archives without a comment"
        self._put(_SIZE.to_bytes(2, "little"))
        self._file.write(_NAME + self._digest.hexdigest().encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _put(self, part: bytes | memoryview) -> None:
        try:
            self._file.write(part)
        except OSError as error:
            self.failure = self.failure or error
            raise
        self._digest.update(part)


def check_seal(path: Path) -> None:
    """Read a file and compare it with its checksum.

    Raises:
        CheckpointError: it is missing, cut off, changed, or never was a checkpoint of this project.
    """
    if _URL.match(str(path)):
        raise CheckpointError(f"{path} is an address, not a file", "download it first")
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint {path}", "name a .ckpt file of a run, such as runs/NAME/checkpoints/last.ckpt"
        )
    try:
        promised, found = _sums(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if promised is None:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint of `h2d train`: no checksum at its end",
            "use an earlier checkpoint of the run",
        )
    if promised != found:
        raise CheckpointError(
            f"{path} is damaged: its checksum is not that of its content", "use an earlier checkpoint of the run"
        )


def forget(path: Path) -> None:
    """Let the next reader have the bytes of the disk, not those that the system still holds in memory."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sums(path: Path) -> tuple[bytes | None, bytes]:
    """The checksum that the file ends with, None where it has none, and that of the bytes before."""
    digest, block = hashlib.sha256(), bytearray(_BLOCK)
    with open(path, "rb", buffering=0) as file:
        left = file.seek(0, os.SEEK_END) - _SIZE
        if left < 0:
            return None, b""
        file.seek(left)
        comment = file.read(_SIZE)
        if not comment.startswith(_NAME):
            return None, b""
        file.seek(0)
        while left > 0 and (count := file.readinto(memoryview(block)[: min(left, _BLOCK)])):
            digest.update(memoryview(block)[:count])
            left -= count
    return comment[len(_NAME) :], digest.hexdigest().encode()

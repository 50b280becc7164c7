"""Files that appear under their final name complete or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from h2d.errors import SetupError

_HINT = "is the place writable, and the disk not full?"


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, or say that nothing can be written there, before work is lost for it.

    Raises:
        SetupError: it cannot be made, or not be written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise SetupError(f"cannot write {folder}: {error.strerror}", _HINT) from error
    if not writable:
        raise SetupError(f"cannot write into {folder}: permission denied", _HINT)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends without an error, it becomes ``path``.

    The temporary file is flushed to the disk before the rename and removed when the block fails. Its name holds the
    process id, so two writers of one file never share it; whichever finishes last wins with complete content.

    Raises:
        SetupError: the file cannot be written.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}", _HINT) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old content or the new, never a part."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

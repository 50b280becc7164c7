"""Files that appear under their final name complete or not at all."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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

    The temporary file is flushed to the disk before the rename and removed when the block fails. Of several writers of
    one file, on whatever machines, whichever finishes last wins with complete content.

    Raises:
        SetupError: the file cannot be written.
    """
    with _temporary(path) as temporary:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old content or the new, never a part."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_once(path: Path, data: bytes) -> bytes:
    """Write ``data`` to ``path`` unless there is such a file, and return what it holds: of several writers one wins."""
    if not path.is_file():
        with _temporary(path) as temporary:
            temporary.write_bytes(data)
            _flush(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                os.replace(temporary, path)
    return path.read_bytes()


def leftovers(folder: Path) -> Iterator[Path]:
    """Temporary files of this machine's writers in ``folder``: of no use when no process is at work there."""
    yield from folder.glob(f".*.{glob.escape(socket.gethostname())}-*.tmp")


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name beside ``path`` that no other writer has, removed in the end."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}", _HINT) from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def open_locks(folder: Path, name: str) -> IO[bytes]:
    """Open a file to lock in a folder; both are made if missing.

    Raises:
        SetupError: it cannot be written.
    """
    make_folder(folder)
    try:
        return open(folder / name, "wb")
    except OSError as error:
        raise SetupError(f"cannot write {folder / name}: {error.strerror}", _HINT) from error


@contextmanager
def holding(folder: Path, who: str) -> Iterator[bool]:
    """Keep a folder, made if missing, from other processes that ask for it; a killed process lets go of it.

    Yields False on a file system without locks, where nobody can be kept out.

    Args:
        who: what the other one would be, for the message.

    Raises:
        SetupError: another process holds it, or it cannot be written.
    """
    with open_locks(folder, ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"{who} is at work in {folder}", "wait for it to end, or choose another folder") from None
        except OSError:
            yield False
        else:
            yield True


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""Where the members of a shard's samples are, so that any sample can be read at any time."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from webdataset.tariterators import base_plus_ext, group_by_keys

from h2d.errors import DataError

_BLOCK = 512
"""Bytes of which a tar file is made."""


class Member(NamedTuple):
    """A file in a tar file: its name, and where in the tar file its header, its content and its padding begin."""

    name: str
    header: int
    content: int
    padding: int

    @property
    def end(self) -> int:
        """First byte behind it."""
        return -(-self.padding // _BLOCK) * _BLOCK


class ShardIndex:
    """The samples of a tar file by number, in WebDataset's format.

    Reading a sample needs one read and no tar reader. What lies around the contents, names and sizes above all, has to
    be what it was when the index was made.

    Args:
        path: the shard.
        count: samples that its manifest promises. A tar file with a damaged header ends there without any error.

    Raises:
        DataError: the file is missing or damaged, or holds more or fewer samples.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                samples = [(members, _sealed(file, members)) for members in _samples(file)]
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            raise damaged(path, reason_of(error)) from error
        if len(samples) != count:
            raise damaged(path, f"holds {len(samples)} samples, its manifest says {count}")
        # arrays, because objects would be copied into every worker
        members = [member for members, _ in samples for member in members]
        self._seals = np.array([seal for _, seal in samples], np.uint32)
        self._firsts = np.cumsum([0, *(len(members) for members, _ in samples)])
        self._places = np.array([member[1:] for member in members], np.int64).reshape(-1, 3)
        self._names = np.array([member.name.encode(errors="surrogateescape") for member in members], np.bytes_)

    def __len__(self) -> int:
        return len(self._seals)

    def read(self, number: int) -> dict[str, Any]:
        """Members of a sample by extension, with ``__key__`` and ``__url__``.

        Raises:
            DataError: the shard has changed since, or holds a name twice.
        """
        members = self._members(number)
        try:
            with open(self.path, "rb") as file:
                content = _read(file, members[0].header, members[-1].end)
            view, start = memoryview(content), members[0].header
            if _seal(view[first - start : stop - start] for first, stop in _around(members)) != self._seals[number]:
                raise ValueError(f"holds another sample at byte {start:,} than before")
            return next(group_by_keys(self._files(content, members)))
        except (EOFError, OSError, ValueError) as error:
            raise damaged(self.path, reason_of(error)) from error

    def _members(self, number: int) -> list[Member]:
        part = slice(self._firsts[number], self._firsts[number + 1])
        names = [name.decode(errors="surrogateescape") for name in self._names[part].tolist()]
        return [Member(name, *place) for name, place in zip(names, self._places[part].tolist(), strict=True)]

    def _files(self, content: bytes, members: list[Member]) -> Iterator[dict[str, Any]]:
        """What WebDataset makes a sample of."""
        start, url = members[0].header, str(self.path)
        for member in members:
            data = content[member.content - start : member.padding - start]
            yield {"fname": member.name, "data": data, "__url__": url}


def _samples(file: BinaryIO) -> Iterator[list[Member]]:
    """The members of each sample: neighbours with the same key. Only the headers are read."""
    sample: list[Member] = []
    key = None
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            prefix, _ = base_plus_ext(info.name)
            if prefix is not None and info.isreg():
                if sample and prefix != key:
                    yield sample
                    sample = []
                key = prefix
                sample.append(Member(info.name, info.offset, info.offset_data, info.offset_data + info.size))
            tar.members.clear()  # type: ignore[attr-defined]  # or every header would stay in memory
    if sample:
        yield sample


def _sealed(file: BinaryIO, members: list[Member]) -> int:
    return _seal(_read(file, start, stop) for start, stop in _around(members))


def _around(members: list[Member]) -> Iterator[tuple[int, int]]:
    """Where the headers and the padding of a sample are."""
    start = members[0].header
    for member in members:
        yield start, member.content
        start = member.padding
    yield start, members[-1].end


def _seal(parts: Iterable[bytes | memoryview]) -> int:
    """Checksum of the parts in a row."""
    seal = 0
    for part in parts:
        seal = zlib.crc32(part, seal)
    return seal


def _read(file: BinaryIO, start: int, stop: int) -> bytes:
    content = os.pread(file.fileno(), stop - start, start)
    if len(content) < stop - start:
        raise EOFError(f"ends at byte {start + len(content):,}, in the middle of a sample")
    return content


def damaged(path: Path, reason: str) -> DataError:
    """The error of a shard that does not hold what it should."""
    return DataError(f"{path}: {reason}", f"copy or prepare the shards again; `h2d data check {path.parent}` tells all")


def reason_of(error: Exception) -> str:
    """What is wrong, in the words of the operating system or of the tar reader."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error.args[0])

"""What a stage leaves for one chunk of the index: a tar file whose presence says that the chunk is done.

Its first sample, ``chunk.json``, counts and lists the rejected images; the others are the written ones.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.sources import Row
from h2d.data.shards import iter_shard, write_tar
from h2d.errors import ConfigError, DataError
from h2d.files import write_once

RECORD = "stage.json"
"""What the results in a stage's folder depend on."""
Members = dict[str, bytes]
"""Extension to content."""
Rejection = dict[str, Any]
"""``key``, ``image`` and ``reason`` of a rejected image; ``failed`` is true when it is worth another try."""


@dataclass
class Counts:
    """``read = written + rejected`` of a stage, with the rejected images and why."""

    written: int = 0
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Images that the stage was given."""
        return self.written + len(self.rejected)

    @property
    def failed(self) -> int:
        """Rejected images that could not be judged, see ``Failure``."""
        return sum(bool(row.get("failed")) for row in self.rejected)

    @property
    def reasons(self) -> dict[str, int]:
        """Rejected images of each kind (the words before the first colon), most frequent first."""
        kinds = Counter(row["reason"].partition(":")[0] for row in self.rejected)
        return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))

    def add(self, other: Counts) -> None:
        """Take in the counts of another part of the same stage."""
        self.written += other.written
        self.rejected += other.rejected

    def line(self) -> str:
        """The counts in words."""
        text = f"read {self.read} = written {self.written} + rejected {len(self.rejected)}"
        if self.rejected:
            text += " (" + ", ".join(f"{count} {reason}" for reason, count in self.reasons.items()) + ")"
        return text


class Failure(str):
    """Why an image could not be judged: a damaged file, a process that died. Worth another try (``--retry-failed``)."""


Result = Members | str
"""What a stage adds to an image, or why it is rejected: a plain text is a judgement, a ``Failure`` is not."""


@dataclass(frozen=True)
class Head:
    """First sample of a finished chunk: the keys of the written images, and the rejected ones."""

    written: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()

    @property
    def counts(self) -> Counts:
        """In numbers."""
        return Counts(len(self.written), list(self.rejected))

    @property
    def reasons(self) -> dict[str, str]:
        """Why the rejected images were, by key."""
        return {row["key"]: Failure(row["reason"]) if row.get("failed") else row["reason"] for row in self.rejected}

    def settled(self, *, retry: bool = False) -> set[str]:
        """Keys that need no work; with ``retry`` failures do."""
        return {*self.written, *(row["key"] for row in self.rejected if not (retry and row.get("failed")))}


def chunk_path(folder: Path, number: int) -> Path:
    """The tar file of a chunk."""
    return folder / f"{number:06d}.tar"


def write_chunk(path: Path, rows: Sequence[Row], results: Mapping[str, Result]) -> Counts:
    """Write the results of the images that the stage was given, in the order of ``rows``, to which they belong."""
    written = [(row.key, r) for row in rows if (r := results.get(row.key)) is not None and not isinstance(r, str)]
    rejected = [rejection(row, r) for row in rows if isinstance(r := results.get(row.key), str)]
    head = json.dumps({"written": [key for key, _ in written], "rejected": rejected}, sort_keys=True).encode()
    write_tar(path, [("chunk", {"json": head}), *written])
    return Counts(len(written), rejected)


def rejection(row: Row, reason: str) -> Rejection:
    """A line of ``rejected.jsonl``."""
    line: Rejection = {"key": row.key, "image": row.image, "reason": str(reason)}
    return line | {"failed": True} if isinstance(reason, Failure) else line


def read_head(path: Path) -> Head:
    """The head of a chunk; an empty one when it is not there yet.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return Head()
    try:
        head = json.loads(next(iter_shard(path))["json"])
        return Head(tuple(head["written"]), tuple(head["rejected"]))
    except (DataError, StopIteration, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def read_chunk(path: Path) -> dict[str, Members]:
    """The written samples of a finished chunk by key.

    Raises:
        DataError: the file is damaged or holds other samples than it says.
    """
    head = read_head(path)
    samples = itertools.islice(iter_shard(path), 1, None)
    try:
        content = {s["__key__"]: {e: c for e, c in s.items() if not e.startswith("__")} for s in samples}
    except DataError as error:
        raise _damaged(path, error.message) from error
    if tuple(content) != head.written:
        raise _damaged(path, "it does not hold the samples that it names")
    return content


def _damaged(path: Path, why: str) -> DataError:
    hint = f"{shlex.join(['rm', str(path)])}, and the same command makes it again"
    return DataError(f"{path} is damaged: {why}", hint)


def keep_record(folder: Path, record: dict[str, Any], later: Sequence[str]) -> None:
    """Remember what a stage's results depend on, or make sure that it is what they were made with.

    Raises:
        ConfigError: earlier results in ``folder`` were made with something else; names it and what to remove.
    """
    record = json.loads(json.dumps(record))
    before = json.loads(write_once(folder / RECORD, json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"))
    for key in sorted(before.keys() | record.keys()):
        if before.get(key) != record.get(key):
            old, new = _short(before.get(key)), _short(record.get(key))
            made = f"with {key}={old}, not {new}" if "of " not in key else f"from {key.replace('of ', 'another ', 1)}"
            raise ConfigError(f"{folder} was made {made}", f"choose another out=, or: {to_remove(folder, later)}")


def to_remove(folder: Path, later: Sequence[str]) -> str:
    """The command that removes a stage's results and what was made from them, and nothing else."""
    there = [path for path in (folder, *(folder.parent / name for name in later)) if path.exists()]
    return shlex.join(["rm", "-r", *map(str, there)])


def _short(value: Any) -> str:
    return "none" if value is None else str(value)

"""What a stage leaves for one chunk of the index: a tar file whose presence says that the chunk is done.

Its first sample, ``chunk.json``, counts and lists the rejected images; the others are the written ones.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.sources import Row
from h2d.data.shards import iter_shard, write_tar
from h2d.errors import ConfigError, DataError
from h2d.files import write_atomic

RECORD = "stage.json"
"""What the results in a stage's folder depend on."""
Members = dict[str, bytes]
"""Extension to content."""


@dataclass
class Counts:
    """``read = written + rejected`` of a stage, with the rejected images and why."""

    read: int = 0
    written: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        """Take in the counts of another part of the same stage."""
        self.read += other.read
        self.written += other.written
        self.rejected += other.rejected

    @property
    def reasons(self) -> dict[str, int]:
        """Rejected images of each kind (the words before the first colon), most frequent first."""
        kinds = Counter(row["reason"].partition(":")[0] for row in self.rejected)
        return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))

    def line(self) -> str:
        """The counts in words."""
        text = f"read {self.read} = written {self.written} + rejected {len(self.rejected)}"
        if self.rejected:
            text += " (" + ", ".join(f"{count} {reason}" for reason, count in self.reasons.items()) + ")"
        return text


def chunk_path(folder: Path, number: int) -> Path:
    """The tar file of a chunk."""
    return folder / f"{number:06d}.tar"


def write_chunk(path: Path, rows: Sequence[Row], results: Iterable[tuple[str, Members | str]]) -> Counts:
    """Write the results ``(key, members or reason)`` of the images of a chunk that the stage was given."""
    pairs = list(results)
    image = {row.key: row.image for row in rows}
    rejected = [{"key": k, "image": image[k], "reason": r} for k, r in pairs if isinstance(r, str)]
    written = [(k, r) for k, r in pairs if not isinstance(r, str)]
    counts = Counts(len(pairs), len(written), rejected)
    head = json.dumps({"read": counts.read, "written": counts.written, "rejected": rejected}).encode()
    write_tar(path, [("chunk", {"json": head}), *written])
    return counts


def chunk_counts(path: Path) -> Counts:
    """The counts of a finished chunk."""
    return Counts(**json.loads(next(iter_shard(path))["json"]))


def read_chunk(path: Path) -> dict[str, Members]:
    """The written samples of a finished chunk by key.

    Raises:
        DataError: the file is damaged or holds fewer samples than it says.
    """
    samples = iter_shard(path)
    head = Counts(**json.loads(next(samples)["json"]))
    content = {s["__key__"]: {e: c for e, c in s.items() if not e.startswith("__")} for s in samples}
    if len(content) != head.written:
        raise DataError(f"{path} holds {len(content)} samples, not {head.written}", "remove it and run again")
    return content


def keep_record(folder: Path, record: dict[str, Any], later: Sequence[str]) -> None:
    """Remember what a stage's results depend on, or make sure that it is what they were made with.

    Raises:
        ConfigError: earlier results in ``folder`` were made with something else; names it and what to remove.
    """
    path = folder / RECORD
    record = json.loads(json.dumps(record))
    if not path.is_file():
        write_atomic(path, json.dumps(record, indent=1, sort_keys=True).encode() + b"\n")
        return
    before = json.loads(path.read_bytes())
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

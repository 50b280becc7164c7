"""Stage ``index``: which images there are, in which split, in which order.

The order is that of a hash of the keys: neighbours in a shard are then unrelated, and ``limit`` takes a fair sample.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data_prep.chunks import RECORD, Counts, Rejection, keep_record, rejection, to_remove
from data_prep.job import INDEX, Job
from data_prep.sources import Row, stable_hash
from h2d.data.schema import validate_key
from h2d.errors import DataError
from h2d.files import sha256_of, write_atomic
from h2d.locks import Claims

GESTURES = "gestures.json"

VAL_SHARE = 0.1
"""Share of the people of a data set without splits that is kept for validation."""


def run(job: Job, later: tuple[str, ...] = ()) -> tuple[Counts, bool]:
    """Write ``index.jsonl`` with what belongs to it, or leave it if it is there.

    Raises:
        DataError: the root holds no image.
        ConfigError: it is there for another root, limit or list, or for other keys of the data set.
    """
    folder = job.folder("index")
    with Claims(folder) as claims:
        claims.take(0, wait=True)  # another command may be making it
        if (job.out / INDEX).is_file():
            keep_record(folder, _settings(job), (INDEX, *later))
            rows, rejected = job.rows(), list(read_lines(folder / "rejected.jsonl"))
            if job.source.may_grow:
                _notice_changes(job, {row.image for row in rows}, later)
            return Counts(len(rows), rejected), False
        found = scan(job)
        if not found.rows:
            raise DataError(f"no images in root={job.root}", _why_none(found.rejected))
        (folder / RECORD).unlink(missing_ok=True)  # of a command that found no images, or was killed here
        keep_record(folder, _settings(job), ())
        write_atomic(folder / "rejected.jsonl", lines(found.rejected))
        write_atomic(folder / GESTURES, json.dumps(found.gestures, indent=1, sort_keys=True).encode() + b"\n")
        write_atomic(job.out / INDEX, lines([row.as_dict() for row in found.rows]))
    return Counts(len(found.rows), found.rejected), True


class Found(NamedTuple):
    """The usable images in their order, the others with their reasons, and how many of each gesture there are.

    The gestures, by split, are those of all usable images, before ``limit``.
    """

    rows: list[Row]
    rejected: list[Rejection]
    gestures: dict[str, dict[str, int]]


def scan(job: Job) -> Found:
    """What the data set holds."""
    usable: dict[str, Row] = {}
    rejected: list[Rejection] = []
    wanted = _listed(job)
    for entry in job.source.scan(job.root):
        row, reason = entry if isinstance(entry, tuple) else (entry, "")
        if wanted is not None and row.key not in wanted:
            continue
        reason = _problem(row) or reason or ("key comes twice" if row.key in usable else "")
        if reason:
            rejected.append(rejection(row, reason))
        else:
            usable[row.key] = row
    known = usable.keys() | {row["key"] for row in rejected}
    rejected += [rejection(Row(key, ""), "in ids= but not in the data set") for key in (wanted or set()) - known]
    rows = sorted(usable.values(), key=lambda row: stable_hash(row.key))
    chosen = job.source.complete(job.root, _split(rows[: job.settings.limit]))
    return Found(chosen, sorted(rejected, key=lambda row: (row["key"], row["image"])), _gestures(_split(rows)))


def gestures_of(job: Job) -> dict[str, dict[str, int]]:
    """Number of images of each gesture in each split of the whole data set."""
    content: dict[str, dict[str, int]] = json.loads((job.folder("index") / GESTURES).read_bytes())
    return content


def lines(rows: Iterable[dict[str, Any]]) -> bytes:
    """Rows as JSON, one a line."""
    return b"".join(json.dumps(row, sort_keys=True).encode() + b"\n" for row in rows)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that ``lines`` made."""
    yield from map(json.loads, path.read_bytes().splitlines())


def _settings(job: Job) -> dict[str, Any]:
    options = {name: _recorded(value) for name, value in asdict(job.source.options).items() if value is not None}
    ids = sha256_of(job.settings.ids)[:16] if job.settings.ids else None
    root = str(job.root.resolve())
    return {"dataset": job.dataset, "root": root, "limit": job.settings.limit, "ids": ids} | options


def _recorded(value: Any) -> str:
    """A value of a data set's own key; of a file its content."""
    return sha256_of(value)[:16] if isinstance(value, Path) and value.is_file() else str(value)


def _listed(job: Job) -> set[str] | None:
    """The keys in the file that ``ids`` names."""
    if job.settings.ids is None:
        return None
    return {line.strip() for line in job.settings.ids.read_text(encoding="utf-8").splitlines()} - {""}


def _gestures(rows: list[Row]) -> dict[str, dict[str, int]]:
    splits = {row.split for row in rows}
    return {split: dict(Counter(row.gesture for row in rows if row.split == split)) for split in splits}


def _notice_changes(job: Job, before: set[str], later: tuple[str, ...]) -> None:
    """Say when the root has changed since: what was prepared is not touched, so that a stopped run can go on."""
    now = {row.image for row in scan(job).rows}
    if now != before:
        print(
            f"index: {job.root} has changed ({len(now - before)} new, {len(before - now)} gone); the index stays as it"
            f" was. To start over: {to_remove(job.folder('index'), (INDEX, *later))}"
        )


def _problem(row: Row) -> str:
    path = PurePosixPath(row.image)
    if path.is_absolute() or ".." in path.parts:
        return "path leaves the root"
    try:
        validate_key(row.key)
    except DataError:
        return "unusable key"
    return ""


def _split(rows: list[Row]) -> list[Row]:
    """Give images without a split one: a fixed share of the people is val, at least one of two and never
    all.

    Everybody whose subject is not known counts as a person of their own.
    """
    loose = {_person(row) for row in rows if not row.split}
    val = {person for person in loose if int(stable_hash(person)[-8:], 16) < VAL_SHARE * 16**8}
    if len(loose) > 1 and not val:
        val.add(min(loose, key=lambda person: stable_hash(person)[-8:]))
    if len(loose) > 1 and val == loose:
        val.remove(max(loose, key=lambda person: stable_hash(person)[-8:]))
    return [row if row.split else replace(row, split="val" if _person(row) in val else "train") for row in rows]


def _person(row: Row) -> str:
    return f"{row.key.partition('/')[0]} {row.subject}" if row.subject else row.key


def _why_none(rejected: list[Rejection]) -> str:
    if not rejected:
        return "check root="
    return f"{len(rejected)} entries were rejected, the first: {rejected[0]['image']}: {rejected[0]['reason']}"

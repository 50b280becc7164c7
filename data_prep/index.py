"""Stage ``index``: which images there are, in which split, in which order.

The order is that of a hash of the keys: neighbours in a shard are then unrelated, and ``limit`` takes a fair sample.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath

from data_prep.chunks import RECORD, Counts, keep_record, to_remove
from data_prep.job import INDEX, Job
from data_prep.sources import Row, stable_hash
from h2d.data.schema import validate_key
from h2d.errors import DataError
from h2d.files import write_atomic

VAL_SHARE = 0.1
"""Share of the images of a data set without splits that is kept for validation."""


def run(job: Job, later: tuple[str, ...] = ()) -> tuple[Counts, bool]:
    """Write ``index.jsonl`` and ``index.rejected.jsonl``, or leave them if they are there.

    Raises:
        DataError: the root holds no image.
        ConfigError: they are there for another root or limit.
    """
    folder = job.folder("index")
    settings = {"dataset": job.dataset, "root": str(job.root.resolve()), "limit": job.settings.limit}
    rejected_path = folder / "rejected.jsonl"
    if (job.out / INDEX).is_file():
        keep_record(folder, settings, (INDEX, *later))
        rejected = [json.loads(line) for line in rejected_path.read_bytes().splitlines()]
        rows = job.rows()
        _notice_changes(job, {row.image for row in rows}, later)
        return Counts(len(rows) + len(rejected), len(rows), rejected), False
    rows, rejected = scan(job)
    if not rows:
        raise DataError(f"no images in root={job.root}", _why_none(rejected))
    (folder / RECORD).unlink(missing_ok=True)  # of a command that found no images, or was killed here
    keep_record(folder, settings, ())
    write_atomic(rejected_path, _lines(rejected))
    write_atomic(job.out / INDEX, _lines([row.as_dict() for row in rows]))
    return Counts(len(rows) + len(rejected), len(rows), rejected), True


def scan(job: Job) -> tuple[list[Row], list[dict[str, str]]]:
    """The usable images in their order, and the others with their reasons."""
    found: dict[str, Row] = {}
    rejected: list[dict[str, str]] = []
    for entry in job.source.scan(job.root):
        row, reason = entry if isinstance(entry, tuple) else (entry, "")
        reason = _problem(row) or reason or ("key comes twice" if row.key in found else "")
        if reason:
            rejected.append({"key": row.key, "image": row.image, "reason": reason})
        else:
            found[row.key] = row
    ordered = sorted(found.values(), key=lambda row: stable_hash(row.key))
    return _split(ordered[: job.settings.limit]), sorted(rejected, key=lambda row: (row["key"], row["image"]))


def _notice_changes(job: Job, before: set[str], later: tuple[str, ...]) -> None:
    """Say when the root has changed since: what was prepared is not touched, so that a stopped run can go on."""
    now = {row.image for row in scan(job)[0]}
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
    """Give images without a split one: a fixed share of the keys is val, at least one image of two."""
    val = {row.key for row in rows if int(stable_hash(row.key)[-8:], 16) < VAL_SHARE * 16**8}
    loose = [row for row in rows if not row.split]
    if len(loose) > 1 and not any(row.key in val for row in loose):
        val.add(min(loose, key=lambda row: stable_hash(row.key)[-8:]).key)
    return [row if row.split else replace(row, split="val" if row.key in val else "train") for row in rows]


def _lines(rows: list[dict[str, str]]) -> bytes:
    return b"".join(json.dumps(row, sort_keys=True).encode() + b"\n" for row in rows)


def _why_none(rejected: list[dict[str, str]]) -> str:
    if not rejected:
        return "check root="
    return f"{len(rejected)} entries were rejected, the first: {rejected[0]['image']}: {rejected[0]['reason']}"

"""Stage ``pack``: join what the stages found into shards, and write the manifest last.

What is in which shard follows from the results of ``filter`` and the settings alone.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h2d
from data_prep.chunks import RECORD, Counts, chunk_path, keep_record, read_head, rejection
from data_prep.index import gestures_of
from data_prep.job import Job
from data_prep.progress import Progress
from data_prep.selection import take
from data_prep.shard import Plan, make_shards
from data_prep.sources import Row
from data_prep.stage import open_chunks, record, stage_counts, unfinished
from data_prep.stages import STAGES
from h2d.data.shards import MANIFEST, SPLITS, Manifest, ShardInfo, read_manifest, write_manifest
from h2d.errors import DataError
from h2d.files import write_atomic
from h2d.locks import Claims


def waits_for(job: Job) -> int:
    """Chunks in which a stage before this one has something left to do, with the shares of all jobs of an array."""
    return open_chunks(whole(job), list(STAGES.values()))


def packed(job: Job, split: str) -> int:
    """Samples of a split in the finished folder of shards."""
    return read_manifest(job.folder("shards")).counts.get(split, 0)


def run(job: Job, *, retry: bool = False) -> tuple[Counts, bool]:
    """Write the shards that are missing, beside any other commands that do the same, then lists and manifest.

    Args:
        retry: make shards again in which an image could not be read.

    Returns:
        counts of the stage, and whether anything was left to do.

    Raises:
        DataError: no sample is left at all, or an earlier stage is not finished.
        ConfigError: there are shards made with other settings.
    """
    if waits_for(job):
        raise unfinished(job, "filter")
    job = whole(job)
    keep_record(job.folder("pack"), record(job, tuple(STAGES), _settings(job)), ("shards",))
    usable, taken, spare = _choose(job)
    if not usable:
        raise DataError("nothing to pack: every image was rejected", f"the reasons are in {job.out}/*/rejected.jsonl")
    plans = _plans(job, taken)
    left = [plan for plan in plans if not plan.is_done(retry=retry)]
    with Progress("pack", sum(len(plan.rows) for plan in left)) as progress, Claims(job.folder("pack")) as claims:
        for plan, counts in make_shards(left, claims, retry=retry):
            claims.release(plan.number)
            progress.add(counts.read, len(counts.rejected))
        claims.take(len(plans), wait=True)
        infos, counts = _collect(plans)
        counts.rejected += [rejection(row, "not taken: there are enough of its kind") for row in spare]
        changed = _publish(job, infos, counts, [row for _, row in taken["test"]])
    return counts, bool(left) or changed


def whole(job: Job) -> Job:
    """The job with the images of all jobs of an array."""
    return replace(job, settings=replace(job.settings, slice=None))


Numbered = tuple[int, Row]
"""A row with the number of its chunk."""


def _choose(job: Job) -> tuple[int, dict[str, list[Numbered]], list[Row]]:
    """How many images ``filter`` kept, those that are taken of each split in the order of the index, and the others."""
    kept: dict[str, list[Numbered]] = {split: [] for split in SPLITS}
    for number, rows in job.chunks():
        keys = set(read_head(chunk_path(job.folder("filter"), number)).written)
        for row in rows:
            if row.key in keys:
                kept[row.split].append((number, row))
    gestures = gestures_of(job) if job.source.keeps_gestures else {}
    taken, spare = {}, []
    for split, numbered in kept.items():
        chosen = take([row for _, row in numbered], job.settings.take[split], gestures.get(split))
        keys = {row.key for row in chosen}
        taken[split] = [pair for pair in numbered if pair[1].key in keys]
        spare += [row for _, row in numbered if row.key not in keys]
    return sum(map(len, kept.values())), taken, spare


def _plans(job: Job, taken: dict[str, list[Numbered]]) -> list[Plan]:
    """Cut the taken images into shards."""
    size = job.settings.shard_size
    pieces = [
        (f"{split}-{start // size:06d}", split, tuple(rows[start : start + size]))
        for split, rows in taken.items()
        for start in range(0, len(rows), size)
    ]
    return [Plan(job, number, *piece) for number, piece in enumerate(pieces)]


def _collect(plans: list[Plan]) -> tuple[list[ShardInfo], Counts]:
    """Entries of the manifest for all shards that hold anything, and the counts of all."""
    infos, total = [], Counts()
    for plan in plans:
        state = json.loads(plan.state.read_bytes())
        info = ShardInfo(**state["shard"])
        total.add(Counts(info.count, state["rejected"]))
        if info.count:
            infos.append(info)
    if not infos:
        raise DataError("nothing to pack: no image can be read any more", f"the reasons are in {plans[0].state.parent}")
    return infos, total


def _publish(job: Job, infos: list[ShardInfo], counts: Counts, test: list[Row]) -> bool:
    """Make the folder of shards what it is to be: lists of test images, the manifest, nothing else. False if it was."""
    folder, lost = job.folder("shards"), {row["key"] for row in counts.rejected}
    gestures = gestures_of(job).get("test") if job.source.keeps_gestures else None
    packed = [row for row in test if row.key not in lost]
    lists = {"test.txt": packed, "ablation.txt": take(packed, job.settings.ablation, gestures)}
    files = {name: "".join(f"{row.key}\n" for row in rows).encode() for name, rows in lists.items() if rows}
    manifest = _manifest(job, infos, counts)
    if _stands(folder, manifest) and all((folder / name).read_bytes() == data for name, data in files.items()):
        return False
    known = {info.name for info in infos}
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in folder.glob("*.tar"):  # of an earlier choice of images, or empty
        if path.name not in known:
            path.unlink()
    for name, data in files.items():
        write_atomic(folder / name, data)
    write_manifest(folder, manifest)
    return True


def _stands(folder: Path, manifest: Manifest) -> bool:
    """Whether the folder is complete with such a manifest, by whichever version of the program."""
    try:
        there = read_manifest(folder)
    except DataError:
        return False
    return replace(manifest, commit=there.commit, h2d_version=there.h2d_version) == there


def _manifest(job: Job, infos: list[ShardInfo], counts: Counts) -> Manifest:
    from h2d.runs import commit

    settings: dict[str, Any] = json.loads((job.folder("index") / RECORD).read_bytes()) | _settings(job)
    settings.pop("root")  # says something about a machine, and nothing about the data
    for stage in STAGES.values():
        settings |= stage.depends(job)
    reasons = {name: stage_counts(job, name).reasons for name in STAGES} | {"pack": counts.reasons}
    return Manifest(
        shards=tuple(infos),
        sources={job.dataset: sum(info.count for info in infos)},
        settings=settings,
        rejected=reasons,
        h2d_version=h2d.__version__,
        commit=commit(),
    )


def _settings(job: Job) -> dict[str, Any]:
    settings = job.settings
    return {"ablation": settings.ablation, "shard_size": settings.shard_size, "take": settings.take}

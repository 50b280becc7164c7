"""Stage ``pack``: join what the stages found into shards, and write the manifest last.

A shard's samples are decided by the results of ``filter`` alone, so every shard can be made, or left alone, by itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h2d
from data_prep import captions, filters, keypoints, masks
from data_prep.chunks import Counts, Members, keep_record
from data_prep.job import Job
from data_prep.processes import BrokenProcessPool, in_processes, pool
from data_prep.progress import Progress
from data_prep.sample import Pack
from data_prep.sources import Row
from data_prep.stage import Item, chunks_of, read_members, record, stage_counts
from h2d.data.shards import MANIFEST, SPLITS, Manifest, ShardInfo, write_manifest, write_tar
from h2d.errors import DataError, SetupError
from h2d.files import sha256_of, write_atomic

STAGES = {"keypoints": keypoints, "masks": masks, "captions": captions, "filter": filters}


@dataclass(frozen=True)
class Plan:
    """A shard to be made: its samples' rows, each with the number of its chunk."""

    job: Job
    name: str
    split: str
    rows: tuple[tuple[int, Row], ...]

    @property
    def tar(self) -> Path:
        """The shard."""
        return self.job.folder("shards") / f"{self.name}.tar"

    @property
    def state(self) -> Path:
        """Its entry of the manifest and its counts, written when it is complete."""
        return self.job.folder("pack") / f"{self.name}.json"


def run(job: Job) -> tuple[Counts, bool]:
    """Write the shards that are missing, then the manifest.

    Returns:
        counts of the stage, and whether anything was left to do.

    Raises:
        DataError: no sample is left at all, or ``filter`` is not finished.
        ConfigError: there are shards made with other settings.
    """
    plans = list(_plans(job))
    if not plans:
        raise DataError("nothing to pack: every image was rejected", f"the reasons are in {job.out}/*/rejected.jsonl")
    keep_record(job.folder("pack"), record(job, tuple(STAGES), _settings(job)), ("shards",))
    left = [plan for plan in plans if not (plan.state.is_file() and plan.tar.is_file())]
    done = not left and (job.folder("shards") / MANIFEST).is_file()
    workers = min(job.settings.workers, max(1, len(left)))
    with (
        Progress("pack", sum(len(plan.rows) for plan in left)) as progress,
        contextlib.closing(in_processes(make_shard, left, workers, _again)) as shards,
    ):
        for plan, (info, counts) in shards:
            write_atomic(plan.state, json.dumps([asdict(info), asdict(counts)]).encode())
            progress.add(counts.read, len(counts.rejected))
    infos, counts = _collect(plans)
    if not done:
        write_manifest(job.folder("shards"), _manifest(job, infos, counts))
    return counts, not done


def make_shard(plan: Plan) -> tuple[ShardInfo, Counts]:
    """Write one shard; images that cannot be packed any more are rejected with a reason."""
    worker = Pack(plan.job)
    rejected: list[dict[str, str]] = []

    def samples() -> Iterator[tuple[str, Members]]:
        for number, row in plan.rows:
            result = worker.prepare_all([Item(row, _members(plan.job, number)[row.key])])[0]
            if isinstance(result, str):
                rejected.append({"key": row.key, "image": row.image, "reason": result})
            else:
                yield row.key, result

    count = write_tar(plan.tar, samples())
    info = ShardInfo(plan.tar.name, plan.split, count, plan.tar.stat().st_size, sha256_of(plan.tar))
    return info, Counts(len(plan.rows), count, rejected)


def _again(plan: Plan) -> tuple[ShardInfo, Counts]:
    """Make a shard whose process died once more, alone."""
    try:
        with pool(1) as executor:
            return executor.submit(make_shard, plan).result()
    except BrokenProcessPool:
        hint = "is there enough memory? try jobs=1"
        raise SetupError(f"the process that packs {plan.name} died twice", hint) from None


def _plans(job: Job) -> Iterator[Plan]:
    """Cut the images that ``filter`` kept into shards, in the order of the index."""
    kept: dict[str, list[tuple[int, Row]]] = {split: [] for split in SPLITS}
    for number, rows in chunks_of(job, ("filter",)):
        keys = read_members(job, ("filter",), number)
        for row in rows:
            if row.key in keys:
                kept[row.split].append((number, row))
    size = job.settings.shard_size
    for split, rows_of_split in kept.items():
        for number, start in enumerate(range(0, len(rows_of_split), size)):
            yield Plan(job, f"{split}-{number:06d}", split, tuple(rows_of_split[start : start + size]))


def _collect(plans: list[Plan]) -> tuple[list[ShardInfo], Counts]:
    """Entries of the manifest for all shards that hold anything, and the counts of all."""
    infos, total = [], Counts()
    for plan in plans:
        info, counts = json.loads(plan.state.read_bytes())
        total.add(Counts(**counts))
        if info["count"]:
            infos.append(ShardInfo(**info))
        else:
            plan.tar.unlink(missing_ok=True)
    if not infos:
        raise DataError("nothing to pack: no image can be read any more", f"the reasons are in {plans[0].state.parent}")
    return infos, total


@lru_cache(maxsize=2)
def _members(job: Job, number: int) -> dict[str, Members]:
    return read_members(job, tuple(STAGES), number)


def _manifest(job: Job, infos: list[ShardInfo], counts: Counts) -> Manifest:
    from h2d.runs import commit

    settings: dict[str, Any] = {"limit": job.settings.limit} | _settings(job)
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
    return {"shard_size": job.settings.shard_size}

"""Stage ``pack``: join what the stages found into shards, and write the manifest last.

A shard's samples are decided by the results of ``filter`` alone, so every shard can be made, or left alone, by itself.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h2d
from data_prep.chunks import Counts, Members, chunk_path, keep_record
from data_prep.job import Job
from data_prep.pictures import found, read_bytes
from data_prep.processes import BrokenProcessPool, in_processes, pool
from data_prep.progress import Progress
from data_prep.sources import Row
from data_prep.stage import Item, Stage, Worker, read_members, record
from h2d.data.schema import SCHEMA_VERSION, decode_mask, encode_sample, hand_boxes
from h2d.data.shards import MANIFEST, SPLITS, Manifest, ShardInfo, write_manifest, write_tar
from h2d.errors import DataError, SetupError
from h2d.files import sha256_of, write_atomic
from h2d.images import encode_jpeg, load_image, original_extension

STAGES = ("keypoints", "masks", "captions", "filter")


class Pack(Worker):
    """Turns what the stages found about an image into a sample."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def prepare(self, item: Item) -> Members:
        """The members of the sample. The pose and the masks are in pixels of the picture that is stored."""
        data = read_bytes(self.job, item)
        extension = original_extension(data)
        if extension is None:
            data, extension = encode_jpeg(load_image(data, item.row.image)), "jpg"
        person = item.members.get("person.png")
        return encode_sample(
            item.row.key,
            data,
            extension,
            decode_mask(item.members["hands.png"]),
            found(item).pose,
            item.members["txt"].decode(),
            _meta(self.job, item),
            None if person is None else decode_mask(person),
        )


@dataclass(frozen=True)
class Plan:
    """A shard to be made: the rows of its samples and the chunk of each."""

    job: Job
    name: str
    split: str
    rows: tuple[tuple[int, Row], ...]


def run(job: Job, rejected: dict[str, dict[str, int]] | None = None) -> tuple[Counts, bool]:
    """Write the shards that are missing and the manifest.

    Args:
        job: the data set.
        rejected: reasons of the earlier stages, for the manifest.

    Raises:
        DataError: no sample is left at all, or ``filter`` is not finished.
        ConfigError: there are shards made with other settings.
    """
    folder = job.folder("pack")
    state = job.out / "pack"
    plans = list(_plans(job))
    if not plans:
        raise DataError("nothing to pack: every image was rejected", f"see the reasons in {job.out}/*/rejected.jsonl")
    keep_record(state, record(STAGE, job), job.dataset, (folder.name,))
    left = [plan for plan in plans if not ((state / f"{plan.name}.json").is_file() and _tar(plan).is_file())]
    done = not left and (folder / MANIFEST).is_file()
    with (
        Progress("pack", sum(len(plan.rows) for plan in left)) as progress,
        contextlib.closing(in_processes(make_shard, left, min(job.settings.workers, max(1, len(left))), _again)) as shards,
    ):
        for plan, (info, counts) in shards:
            write_atomic(state / f"{plan.name}.json", json.dumps([asdict(info), asdict(counts)]).encode())
            progress.add(counts.read, len(counts.rejected))
    total, infos = Counts(), []
    for plan in plans:
        info_row, counts_row = json.loads((state / f"{plan.name}.json").read_bytes())
        total.add(Counts(**counts_row))
        infos += [ShardInfo(**info_row)] if info_row["count"] else []
    if not infos:
        raise DataError("nothing to pack: no image could be read any more", f"see {state}")
    if not done:
        write_manifest(folder, _manifest(job, infos, total, rejected or {}))
    return total, not done


def make_shard(plan: Plan) -> tuple[ShardInfo, Counts]:
    """Write one shard; images that cannot be packed are rejected with a reason."""
    worker = Pack(plan.job)
    results = []

    def samples() -> Iterator[tuple[str, Members]]:
        for number, row in plan.rows:
            result = worker.prepare_all([Item(row, _members(plan.job, number)[row.key])])[0]
            results.append((row, result if isinstance(result, str) else ""))
            if not isinstance(result, str):
                yield row.key, result

    count = write_tar(_tar(plan), samples())
    rejected = [{"key": row.key, "image": row.image, "reason": reason} for row, reason in results if reason]
    info = ShardInfo(_tar(plan).name, plan.split, count, _tar(plan).stat().st_size, sha256_of(_tar(plan)))
    return info, Counts(len(results), count, rejected)


def _again(plan: Plan) -> tuple[ShardInfo, Counts]:
    """Make a shard whose process died once more, alone."""
    try:
        with pool(1) as executor:
            return executor.submit(make_shard, plan).result()
    except BrokenProcessPool:
        raise SetupError(f"the process that packs {plan.name} died twice", "is there enough memory? try jobs=1") from None


def _plans(job: Job) -> Iterator[Plan]:
    rows = job.rows()
    kept: dict[str, list[tuple[int, Row]]] = {split: [] for split in SPLITS}
    for number in range(0, -(-len(rows) // job.settings.chunk_size)):
        chunk = rows[number * job.settings.chunk_size : (number + 1) * job.settings.chunk_size]
        if not chunk_path(job.folder("filter"), number).is_file():
            raise DataError(f"{job.folder('filter')} is not finished", f"run `python -m data_prep filter {job.dataset} ...`")
        keys = read_members(job, ("filter",), number)
        for row in chunk:
            if row.key in keys:
                kept[row.split].append((number, row))
    for split, found_rows in kept.items():
        for start in range(0, len(found_rows), job.settings.shard_size):
            part = tuple(found_rows[start : start + job.settings.shard_size])
            yield Plan(job, f"{split}-{start // job.settings.shard_size:06d}", split, part)


def _tar(plan: Plan) -> Path:
    return plan.job.folder("pack") / f"{plan.name}.tar"


@lru_cache(maxsize=2)
def _members(job: Job, number: int) -> dict[str, Members]:
    return read_members(job, STAGES, number)


def _meta(job: Job, item: Item) -> dict[str, Any]:
    keypoints = found(item)
    masks, captions, judged = (json.loads(item.members[f"{name}.json"]) for name in ("masks", "captions", "filter"))
    return {
        "schema": SCHEMA_VERSION,
        "key": item.row.key,
        "source": job.dataset,
        "split": item.row.split,
        "subject": item.row.subject,
        "gesture": item.row.gesture,
        "size": keypoints.facts["size"],
        "hand_boxes": hand_boxes(keypoints.pose),
        "scores": {"pose": keypoints.facts["score"], "hands": masks["scores"], "mask_pixels": judged["mask_pixels"]},
        "made_by": {
            "pose": keypoints.facts["made_by"],
            "hands": masks["made_by"],
            "caption": captions["made_by"],
        },
        "source_sha256": keypoints.facts["sha256"],
    }


def _manifest(job: Job, infos: Sequence[ShardInfo], counts: Counts, rejected: dict[str, dict[str, int]]) -> Manifest:
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(job.settings).items()}
    for machine in ("root", "out", "jobs", "device"):
        del settings[machine]
    return Manifest(
        shards=tuple(infos),
        sources={job.dataset: sum(info.count for info in infos)},
        settings=settings | {"masks": job.masks},
        rejected=rejected | {"pack": dict(Counter(counts.reasons))},
        h2d_version=h2d.__version__,
        commit=_commit(),
    )


def _commit() -> str | None:
    """The commit of this checkout, if it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _depends(job: Job) -> dict[str, Any]:
    return {"shard_size": job.settings.shard_size}


STAGE = Stage("pack", STAGES, Pack, _depends)

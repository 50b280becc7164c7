"""The stages in their order, what a user sees of them, and the table at the end."""

from __future__ import annotations

import time

from data_prep import index, pack, stage
from data_prep.chunks import Counts
from data_prep.job import Job
from data_prep.settings import Settings, existing_root
from data_prep.stages import STAGES
from h2d.files import write_atomic
from h2d.locks import Claims

_LIST = 1 << 40
"""The claim of the list of rejected images, beyond all numbers of chunks."""
ORDER = ("index", *STAGES, "pack")


def run_stages(name: str, dataset: str, settings: Settings, *, retry: bool = False) -> None:
    """Run one stage, or all of them in a row, and say what was read, written and rejected.

    A job of an array does its share of the stages before ``pack``; the last one to finish packs.

    Args:
        retry: try images again that could not be judged: unreadable files, processes that died.

    Raises:
        H2DError: see the stages.
    """
    if settings.out is None:
        raise ValueError("settings.out must be a path, not None")
    job = Job(dataset, settings, existing_root(settings, dataset), settings.out)
    job.check()
    total: dict[str, Counts] = {}
    news = False
    if settings.masks == "auto" and job.masks == "grabcut" and name in ("all", "masks"):
        print("masks: by GrabCut, which needs no weights; masks=sam takes Segment Anything, as the paper does")
    with job.sharing():
        for current in ORDER if name == "all" else (name,):
            if current == "pack" and name == "all" and (others := pack.waits_for(job)):
                print(f"pack: chunks left for the other shares: {others}; the last share to finish packs")
                return
            total[current], worked = _run(current, job, retry=retry)
            news = news or worked
    if name == "all" and news:
        whole = pack.whole(job)
        print(table(total | {stage_name: stage.stage_counts(whole, stage_name) for stage_name in STAGES}))
    if "pack" in total:
        for split, asked in settings.take.items():
            if asked is not None:
                print(f"{split}: {pack.packed(job, split):,} of {asked:,} samples that were asked for")
        print(f"shards: {job.folder('shards')}")


def _run(name: str, job: Job, *, retry: bool) -> tuple[Counts, bool]:
    start = time.monotonic()
    later = (*ORDER[ORDER.index(name) + 1 :], "shards")
    if name == "index":
        counts, worked = index.run(job, later)
    elif name == "pack":
        counts, worked = pack.run(job, retry=retry)
    else:
        counts, worked = stage.run(STAGES[name], job, later, retry=retry)
    seconds = f"{time.monotonic() - start:.1f} s" if worked else "nothing to do"
    part = f" (share {job.settings.slice})" if job.settings.slice and name not in ("index", "pack") else ""
    print(f"{name}{part}: {counts.line()}, {seconds}", flush=True)
    if counts.failed:
        print(f"  {counts.failed} of the rejected could not be judged; --retry-failed tries them again", flush=True)
    if name != "index":
        _list_rejected(name, job, counts)
    return counts, worked


def _list_rejected(name: str, job: Job, counts: Counts) -> None:
    """Write a stage's ``rejected.jsonl``, with the shares of all jobs of an array: the last to end sees every chunk."""
    path = job.folder(name) / "rejected.jsonl"
    with Claims(job.folder(name)) as claims:
        claims.take(_LIST, wait=True)
        if name in STAGES:
            counts = stage.stage_counts(pack.whole(job), name)
        lines = index.lines(counts.rejected)
        if not path.is_file() or path.read_bytes() != lines:
            write_atomic(path, lines)


def table(total: dict[str, Counts]) -> str:
    """What every stage read, wrote and rejected, with the reasons."""
    lines = [f"{'stage':<10} {'read':>8} {'written':>8} {'rejected':>8}"]
    for name, counts in total.items():
        lines.append(f"{name:<10} {counts.read:>8} {counts.written:>8} {len(counts.rejected):>8}")
        lines += [f"{'':<10} {'':>8} {'':>8} {count:>8}  {reason}" for reason, count in counts.reasons.items()]
    return "\n".join(lines)

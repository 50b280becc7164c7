"""The stages in their order, what a user sees of them, and the table at the end."""

from __future__ import annotations

import json
import time

from data_prep import index, pack, stage
from data_prep.chunks import Counts
from data_prep.job import Job
from data_prep.settings import Settings, existing_root
from h2d.files import write_atomic

ORDER = ("index", *pack.STAGES, "pack")


def run_stages(name: str, dataset: str, settings: Settings) -> None:
    """Run one stage, or all of them in a row, and say what was read, written and rejected.

    Raises:
        H2DError: see the stages.
    """
    if settings.out is None:
        raise ValueError("settings.out must be a path, not None")
    job = Job(dataset, settings, existing_root(settings, dataset), settings.out)
    job.check()
    total: dict[str, Counts] = {}
    news = False
    with job.lock():
        for current in ORDER if name == "all" else (name,):
            total[current], worked = _run(current, job)
            news = news or worked
    if name == "all" and news:
        print(table(total))
    if "pack" in total:
        print(f"shards: {job.folder('shards')}")


def _run(name: str, job: Job) -> tuple[Counts, bool]:
    start = time.monotonic()
    later = (*ORDER[ORDER.index(name) + 1 :], "shards")
    if name == "index":
        counts, worked = index.run(job, later)
    elif name == "pack":
        counts, worked = pack.run(job)
    else:
        counts, worked = stage.run(pack.STAGES[name].STAGE, job, later)
    seconds = f"{time.monotonic() - start:.1f} s" if worked else "nothing to do"
    print(f"{name}: {counts.line()}, {seconds}", flush=True)
    if worked and name != "index":
        lines = b"".join(json.dumps(row, sort_keys=True).encode() + b"\n" for row in counts.rejected)
        write_atomic(job.out / name / "rejected.jsonl", lines)
    return counts, worked


def table(total: dict[str, Counts]) -> str:
    """What every stage read, wrote and rejected, with the reasons."""
    lines = [f"{'stage':<10} {'read':>8} {'written':>8} {'rejected':>8}"]
    for name, counts in total.items():
        lines.append(f"{name:<10} {counts.read:>8} {counts.written:>8} {len(counts.rejected):>8}")
        lines += [f"{'':<10} {'':>8} {'':>8} {count:>8}  {reason}" for reason, count in counts.reasons.items()]
    return "\n".join(lines)

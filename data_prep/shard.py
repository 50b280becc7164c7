"""One shard: what is to be in it, and making it, so that any process can make any shard at any time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from data_prep.chunks import Counts, Members, Rejection, rejection
from data_prep.job import Job
from data_prep.processes import BrokenProcessPool, in_processes, pool
from data_prep.sample import Pack
from data_prep.sources import Row, stable_hash
from data_prep.stage import read_members
from data_prep.stages import STAGES
from data_prep.worker import Item
from h2d.data.shards import ShardInfo, write_tar
from h2d.errors import SetupError
from h2d.files import sha256_of, write_atomic
from h2d.locks import Claims


@dataclass(frozen=True)
class Plan:
    """A shard to be made: its samples' rows, each with the number of its chunk."""

    job: Job
    number: int
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

    @property
    def keys(self) -> str:
        """Digest of what is to be in it."""
        return stable_hash("\n".join(row.key for _, row in self.rows))

    def is_done(self, *, retry: bool = False) -> bool:
        """Whether the shard is there with what belongs into it; with ``retry``, and nothing in it failed."""
        if not (self.state.is_file() and self.tar.is_file()):
            return False
        state = json.loads(self.state.read_bytes())
        return state["keys"] == self.keys and not (retry and any(row.get("failed") for row in state["rejected"]))


def make_shard(plan: Plan) -> Counts:
    """Write one shard, and what it holds; images that cannot be packed any more are rejected with a reason."""
    worker = Pack(plan.job)
    rejected: list[Rejection] = []

    def samples() -> Iterator[tuple[str, Members]]:
        for number, row in plan.rows:
            result = worker.prepare_all([Item(row, _members(plan.job, number)[row.key])])[0]
            if isinstance(result, str):
                rejected.append(rejection(row, result))
            else:
                yield row.key, result

    plan.state.unlink(missing_ok=True)
    count = write_tar(plan.tar, samples())
    info = ShardInfo(plan.tar.name, plan.split, count, plan.tar.stat().st_size, sha256_of(plan.tar))
    state = {"shard": asdict(info), "rejected": rejected, "keys": plan.keys}
    write_atomic(plan.state, json.dumps(state, sort_keys=True).encode())
    return Counts(count, rejected)


def make_shards(plans: list[Plan], claims: Claims, *, retry: bool) -> Iterator[tuple[Plan, Counts]]:
    """Make the shards that nobody else is making, then those that somebody began and left."""
    while plans:
        busy: list[Plan] = []
        mine = (plan for plan in plans if _is_ours(plan, claims, busy, retry=retry))
        workers = min(plans[0].job.settings.workers, len(plans))
        with contextlib.closing(in_processes(make_shard, mine, workers, _again)) as shards:
            yield from shards
        plans = busy
        if plans:
            claims.take(plans[0].number, wait=True)


def _is_ours(plan: Plan, claims: Claims, busy: list[Plan], *, retry: bool) -> bool:
    if not claims.take(plan.number):
        busy.append(plan)
        return False
    if plan.is_done(retry=retry):
        claims.release(plan.number)  # two commands that keep such claims would wait for each other
        return False
    return True


def _again(plan: Plan) -> Counts:
    """Make a shard whose process died once more, alone."""
    try:
        with pool(1) as executor:
            return executor.submit(make_shard, plan).result()
    except BrokenProcessPool:
        hint = "is there enough memory? try jobs=1"
        raise SetupError(f"the process that packs {plan.name} died twice", hint) from None


@lru_cache(maxsize=2)
def _members(job: Job, number: int) -> dict[str, Members]:
    return read_members(job, tuple(STAGES), number)

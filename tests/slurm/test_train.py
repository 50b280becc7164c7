"""A training of two nodes that is signalled again and again ends with the bits of one that was left alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ..checkpoint_states import state_differences
from .cluster import Cluster, State
from .conftest import Checkout

RECIPE = [
    "trainer.max_steps=24",
    "trainer.global_batch=8",
    "data.batch_size=1",  # four accumulated batches of each rank
    "data.num_workers=1",
    "optim.ema_decay=0.9",
    "trainer.val_every_n_steps=10",
    "checkpoint.every_n_steps=10",
    "evaluation.split=none",
]
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--time=20")
DRIVER = Path(__file__).parent.parent / "end_to_end" / "proofs" / "driver.py"
DONE = {"": State("COMPLETED", "0:0", 0)}


def last(checkout: Checkout, name: str = "hand") -> dict[str, Any]:
    path = checkout.folder / "runs" / name / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True)


def with_faults(checkout: Checkout, **faults: Any) -> None:
    """Jobs run the driver in place of ``h2d train``."""
    folder = checkout.folder / "bin"
    folder.mkdir()
    program = folder / "h2d"
    lines = [f"#!{sys.executable}", "import os, sys", "words = sys.argv[2:]", "words.remove('--resume')"]
    lines += ["words.remove('auto')", f"faults = {json.dumps(faults)!r}"]
    lines += [f"os.execv({sys.executable!r}, [{sys.executable!r}, {str(DRIVER)!r}, faults, 'auto', *words])"]
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    checkout.site(folder)


@pytest.fixture
def undisturbed(make_checkout: Callable[[str], Checkout], cluster: Cluster, world: list[str]) -> dict[str, Any]:
    """The last checkpoint of a job that nobody disturbs."""
    checkout = make_checkout("undisturbed")
    job = checkout.sbatch(*TWO_NODES, "slurm/train.sbatch", "hand", *world, *RECIPE)
    assert cluster.wait(job) == DONE, checkout.log(job)
    return last(checkout)


def test_signals_cost_nothing(
    checkout: Checkout,
    cluster: Cluster,
    world: list[str],
    undisturbed: dict[str, Any],
    long: bool,
    figures: Callable[[str], None],
) -> None:
    """During the imports, in the middle, after the last step; the long form adds a preemption and a time limit."""
    limit = ("--time=2", "--signal=USR1@60") if long else ()
    job = checkout.sbatch(*TWO_NODES, *limit, "slurm/train.sbatch", "hand", *world, *RECIPE)
    cluster.wait(job, until=["RUNNING"])
    checkout.until(job, "-- job")
    cluster("scancel", "--signal=TERM", job)  # to ranks that import
    checkout.until(job, "stopped at step 1 of 24")
    requests = 1
    checkout.until(job, "start 2")
    steps = ("step 5 of 24", "step 12 of 24") if long else ("step 12 of 24",)
    for number, step in enumerate(steps):
        checkout.until(job, step)
        cluster("scancel", "--signal=USR1" if number == 0 else "--signal=TERM", job)
        requests += 1
        checkout.until(job, f"start {requests + 1}")
    checkout.until(job, "step 24 of 24")
    cluster("scancel", "--signal=USR1", job)
    state = cluster.wait(job)[""]
    assert (state.state, state.code) == ("COMPLETED", "0:0"), checkout.log(job)
    assert state.restarts >= requests
    assert checkout.log(job).count("goes back into the queue") == state.restarts
    assert state_differences(last(checkout), undisturbed) == []
    figures(f"{state.restarts} requeues and a signal after the last step: bit-identical")

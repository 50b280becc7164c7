"""A training of two nodes that is signalled again and again ends with the bits of one that was left alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ..checkpoint_states import state_differences
from .cluster import Cluster, State
from .conftest import Checkout

RECIPE = [
    "trainer.max_steps=18",
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


@pytest.fixture(scope="module")
def ends() -> dict[str, dict[str, Any]]:
    """The last checkpoint of a job that nobody disturbs, once there is one."""
    return {}


@pytest.fixture
def undisturbed(
    make_checkout: Callable[[str], Checkout], cluster: Cluster, world: list[str], ends: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The same."""
    if not ends:
        checkout = make_checkout("undisturbed")
        job = checkout.sbatch(*TWO_NODES, "slurm/train.sbatch", "hand", *world, *RECIPE)
        assert cluster.wait(job) == DONE, checkout.log(job)
        ends["hand"] = last(checkout)
    return ends["hand"]


def ranks_import(checkout: Checkout, cluster: Cluster, job: str) -> None:
    """Wait until the ranks of a job are there, and before they are ready."""
    while f"{job}.0" not in cluster("squeue", "--steps", "--noheader", "--jobs", job, check=False):
        time.sleep(0.2)
    time.sleep(1)
    assert "training into" not in checkout.log(job)


def ended_well(checkout: Checkout, cluster: Cluster, job: str) -> int:
    """Wait for the end of a job; how often it started again."""
    state = cluster.wait(job, seconds=600)[""]
    assert (state.state, state.code) == ("COMPLETED", "0:0"), checkout.log(job)
    return state.restarts


def test_signals_to_ranks_out_of_step_cost_nothing(
    checkout: Checkout, cluster: Cluster, world: list[str], undisturbed: dict[str, Any]
) -> None:
    """While the ranks import, in the middle, and after the last step; one rank is slower than the other."""
    with_faults(checkout, slow={"rank": 1, "seconds": 0.2})
    job = checkout.sbatch(*TWO_NODES, "slurm/train.sbatch", "hand", *world, *RECIPE)
    ranks_import(checkout, cluster, job)
    cluster("scancel", "--signal=TERM", job)
    checkout.until(job, "stopped at step 1 of 18")
    checkout.until(job, "start 2")
    checkout.until(job, "step 9 of 18")
    cluster("scancel", "--signal=USR1", job)
    checkout.until(job, "start 3")
    checkout.until(job, "step 18 of 18")
    cluster("scancel", "--signal=USR1", job)
    assert ended_well(checkout, cluster, job) == 2
    assert checkout.log(job).count("goes back into the queue") == 2
    assert state_differences(last(checkout), undisturbed) == []


@pytest.mark.usefixtures("only_long")
def test_five_signals_a_time_limit_a_preemption_and_a_failed_node(
    checkout: Checkout,
    cluster: Cluster,
    world: list[str],
    undisturbed: dict[str, Any],
    figures: Callable[[str], None],
) -> None:
    """Everything that ends jobs, to one job."""
    with_faults(checkout, slow={"rank": 0, "seconds": 0.5})
    job = checkout.sbatch(*TWO_NODES, "slurm/train.sbatch", "hand", *world, *RECIPE)
    ranks_import(checkout, cluster, job)
    cluster("scancel", "--signal=USR1", job)
    checkout.until(job, "stopped at step 1 of 18")
    for start, (step, name) in enumerate((("step 3 of", "USR1"), ("step 6 of", "TERM")), 2):
        checkout.until(job, f"start {start}")
        checkout.until(job, step)
        cluster("scancel", f"--signal={name}", job)
        checkout.until(job, f"start {start + 1}")
    checkout.until(job, "step 9 of")
    urgent = cluster("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null",
                     "--wrap=sleep 1", cwd=checkout.folder)  # fmt: skip
    checkout.until(job, "start 5")
    assert cluster.wait(urgent)[""].state == "COMPLETED"
    checkout.until(job, "step 12 of")
    cluster("scontrol", "update", "NodeName=127.0.0.2", "State=DOWN", "Reason=test")
    cluster.wait(job, until=["PENDING"])
    cluster("scontrol", "update", "NodeName=127.0.0.2", "State=RESUME", check=False)  # it may have come back
    checkout.until(job, "start 6")
    checkout.until(job, "step 18 of")
    cluster("scancel", "--signal=USR1", job)
    restarts = ended_well(checkout, cluster, job)
    assert restarts == 5
    assert state_differences(last(checkout), undisturbed) == []
    figures("USR1 twice, TERM, a preemption, a failed node, and USR1 after the last step: bit-identical")


@pytest.mark.usefixtures("only_long")
def test_a_time_limit(
    checkout: Checkout,
    cluster: Cluster,
    world: list[str],
    undisturbed: dict[str, Any],
    figures: Callable[[str], None],
) -> None:
    """Slurm itself sends the signal; a limit is a minute at least, and is looked at twice a minute."""
    with_faults(checkout, slow={"rank": 0, "seconds": 1})
    limit = ("--time=2", "--signal=USR1@60")
    job = checkout.sbatch(*TWO_NODES, *limit, "slurm/train.sbatch", "hand", *world, *RECIPE)
    restarts = ended_well(checkout, cluster, job)
    assert restarts >= 1
    assert state_differences(last(checkout), undisturbed) == []
    figures(f"{restarts} time limits: bit-identical")


@pytest.mark.usefixtures("only_long")
def test_ranks_out_of_step_never_hang(
    make_checkout: Callable[[str], Checkout], cluster: Cluster, world: list[str], figures: Callable[[str], None]
) -> None:
    """Ten runs, one rank slower by a second for each step, signalled at another moment each time."""
    for number in range(10):
        checkout = make_checkout(f"run{number}")
        with_faults(checkout, slow={"rank": number % 2, "seconds": 1})
        settings = [*RECIPE, "trainer.max_steps=4"]
        settings.remove("trainer.max_steps=18")
        job = checkout.sbatch(*TWO_NODES, "slurm/train.sbatch", "hand", *world, *settings)
        checkout.until(job, "step 1 of 4")
        time.sleep(number / 7)
        cluster("scancel", "--signal=USR1", job)
        assert ended_well(checkout, cluster, job) == 1
    figures("10 of 10 runs with ranks out of step stopped, came back and ended")

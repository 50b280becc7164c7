"""A training of two nodes that is signalled again and again ends with the bits of one that was left alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
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


class Training:
    """A job of two nodes, one of whose ranks takes longer for each batch."""

    def __init__(self, checkout: Checkout, cluster: Cluster, slow: dict[str, float], *words: str) -> None:
        self.checkout, self.cluster = checkout, cluster
        with_faults(checkout, slow=slow)
        self.job = checkout.sbatch(*TWO_NODES, *words)
        self.until = partial(checkout.until, self.job)

    def importing(self) -> None:
        """Wait until the ranks are there, and before they are ready."""
        while f"{self.job}.0" not in self.cluster("squeue", "--steps", "--noheader", "--jobs", self.job, check=False):
            time.sleep(0.2)
        time.sleep(1)
        assert "training into" not in self.checkout.log(self.job)

    def signal(self, name: str) -> None:
        """To all processes of the ranks."""
        self.cluster("scancel", f"--signal={name}", self.job)

    def starts(self) -> int:
        """Wait for the end, which has to be a good one; how often the job started again."""
        state = self.cluster.wait(self.job, seconds=600)[""]
        assert (state.state, state.code) == ("COMPLETED", "0:0"), self.checkout.log(self.job)
        return state.restarts

    def differences(self, undisturbed: dict[str, Any]) -> list[str]:
        """Between its end and that of a job that nobody disturbed."""
        return state_differences(last(self.checkout), undisturbed)


@pytest.fixture
def training(checkout: Checkout, cluster: Cluster, world: list[str]) -> Callable[..., Training]:
    """``training(rank, seconds, option ...)`` submits one whose rank ``rank`` is slower."""

    def start(rank: int, seconds: float, *options: str) -> Training:
        words = (*options, "slurm/train.sbatch", "hand", *world, *RECIPE)
        return Training(checkout, cluster, {"rank": rank, "seconds": seconds}, *words)

    return start


def test_signals_to_ranks_out_of_step_cost_nothing(
    training: Callable[..., Training], undisturbed: dict[str, Any]
) -> None:
    """While the ranks import, in the middle, and after the last step."""
    job = training(1, 0.2)
    job.importing()
    job.signal("TERM")
    job.until("stopped at step 1 of 18")
    job.until("start 2")
    job.until("step 9 of 18")
    job.signal("USR1")
    job.until("start 3")
    job.until("step 18 of 18")
    job.signal("USR1")
    assert job.starts() == 2
    assert job.checkout.log(job.job).count("goes back into the queue") == 2
    assert job.differences(undisturbed) == []


@pytest.mark.usefixtures("only_long")
def test_five_signals_a_preemption_and_a_failed_node(
    training: Callable[..., Training], cluster: Cluster, undisturbed: dict[str, Any], figures: Callable[[str], None]
) -> None:
    """Everything that ends jobs, to one job."""
    job = training(0, 0.5)
    job.importing()
    job.signal("USR1")
    job.until("stopped at step 1 of 18")
    for start, (step, name) in enumerate((("step 3 of", "USR1"), ("step 6 of", "TERM")), 2):
        job.until(f"start {start}")
        job.until(step)
        job.signal(name)
        job.until(f"start {start + 1}")
    job.until("step 9 of")
    urgent = cluster("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null",
                     "--wrap=sleep 1", cwd=job.checkout.folder)  # fmt: skip
    job.until("start 5")
    assert cluster.wait(urgent)[""].state == "COMPLETED"
    job.until("step 12 of")
    cluster("scontrol", "update", "NodeName=127.0.0.2", "State=DOWN", "Reason=test")
    cluster.wait(job.job, until=["PENDING"])
    cluster("scontrol", "update", "NodeName=127.0.0.2", "State=RESUME", check=False)  # it may have come back
    job.until("start 6")
    job.until("step 18 of")
    job.signal("USR1")
    assert job.starts() == 5
    assert job.differences(undisturbed) == []
    figures("USR1 twice, TERM, a preemption, a failed node, and USR1 after the last step: bit-identical")


@pytest.mark.usefixtures("only_long")
def test_a_time_limit(
    training: Callable[..., Training], undisturbed: dict[str, Any], figures: Callable[[str], None]
) -> None:
    """Slurm itself sends the signal; a limit is a minute at least, and is looked at twice a minute."""
    job = training(0, 1, "--time=2", "--signal=USR1@60")
    starts = job.starts()
    assert starts >= 1
    assert job.differences(undisturbed) == []
    figures(f"{starts} time limits: bit-identical")


@pytest.mark.usefixtures("only_long")
def test_ranks_out_of_step_never_hang(
    make_checkout: Callable[[str], Checkout], cluster: Cluster, world: list[str], figures: Callable[[str], None]
) -> None:
    """Ten runs, one rank slower by a second for each batch, signalled at another moment each time."""
    settings = ["trainer.max_steps=4", *RECIPE[1:]]
    for number in range(10):
        words = ("slurm/train.sbatch", "hand", *world, *settings)
        job = Training(make_checkout(f"run{number}"), cluster, {"rank": number % 2, "seconds": 1}, *words)
        job.until("step 1 of 4")
        time.sleep(number / 7)
        job.signal("USR1")
        assert job.starts() == 1
    figures("10 of 10 runs with ranks out of step stopped, came back and ended")

"""Shards made by an array are those of a single process, whatever happens to its tasks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from data_prep.__main__ import main as data_prep

from .cluster import Cluster
from .conftest import Checkout

KEYS = ["masks=exact", "keypoints=exact", "chunk_size=4"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 rendered people."""
    folder = tmp_path_factory.mktemp("raw")
    assert data_prep(["generate", "synthetic", f"root={folder}", "count=24", "size=128", "seed=3", "jobs=1"]) == 0
    return folder


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that is not hidden."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_killed_task_is_submitted_again(checkout: Checkout, cluster: Cluster, raw: Path, tmp_path: Path) -> None:
    single = tmp_path / "single"
    assert data_prep(["all", "synthetic", f"root={raw}", f"out={single}", "jobs=1", *KEYS]) == 0
    out = checkout.folder / "data" / "people"
    words = ["slurm/prepare.sbatch", "all", "synthetic", f"root={raw}", f"out={out}", "jobs=1", *KEYS]
    job = checkout.sbatch("--array=0-2", *words, SHARES="3")
    cluster.wait(f"{job}_1", until=["RUNNING"])
    cluster("scancel", f"{job}_1")
    states = cluster.wait(job)
    assert [states[key].state for key in "012"] == ["COMPLETED", "CANCELLED", "COMPLETED"], checkout.log(job)
    assert not (out / "shards" / "manifest.json").exists()
    assert "chunks left for the other shares" in checkout.log(job)
    again = checkout.sbatch("--array=1", *words, SHARES="3")
    assert cluster.wait(again)["1"].state == "COMPLETED", checkout.log(again)
    assert contents(out / "shards") == contents(single / "shards")


def test_time_limits_and_preemption_bring_a_task_back(checkout: Checkout, cluster: Cluster, raw: Path) -> None:
    """The signal before the limit, and a preemption by jobs of a partition that comes first."""
    out = checkout.folder / "data" / "people"
    words = ["slurm/prepare.sbatch", "all", "synthetic", f"root={raw}", f"out={out}", "jobs=1", *KEYS]
    job = checkout.sbatch("--array=0", *words, SHARES="1")
    checkout.until(job, "start 1")
    cluster("scancel", "--batch", "--signal=USR1", f"{job}_0")
    checkout.until(job, "time is nearly up")
    checkout.until(job, "start 2")
    urgent = cluster("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null",
                     "--wrap=sleep 1", cwd=checkout.folder)  # fmt: skip
    checkout.until(job, "start 3")
    assert cluster.wait(urgent)[""].state == "COMPLETED"
    assert cluster.wait(job)["0"].state == "COMPLETED", checkout.log(job)
    assert (out / "shards" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("array", "shares", "complaint"),
    [
        ("3", {"SHARES": "3"}, "error: array index 3, and there are 3 shares"),
        ("2", {}, "error: these are not all shares"),
        ("0,2", {}, "error: these are not all shares"),
    ],
)
def test_an_index_of_no_share(
    array: str, shares: dict[str, str], complaint: str, checkout: Checkout, cluster: Cluster, raw: Path
) -> None:
    words = ["slurm/prepare.sbatch", "all", "synthetic", f"root={raw}", f"out={checkout.folder / 'data'}"]
    job = checkout.sbatch(f"--array={array}", *words, **shares)
    assert {state.code for state in cluster.wait(job).values()} == {"2:0"}
    assert complaint in checkout.log(job)
    assert not (checkout.folder / "data").exists()

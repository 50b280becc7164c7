"""``submit_all.sh``: from rendered people to the table, by jobs that wait for each other."""

from __future__ import annotations

import re

import pytest

from .cluster import Cluster
from .conftest import Checkout

SETTINGS = ["preset=smoke", "image_size=64", "model.base={base}", "evaluation.detector=none", "trainer.accelerator=cpu"]
SHAPE = {
    "DATASET": "synthetic",
    "EXP": "chain",
    "COUNT": "24",
    "SHARES": "2",
    "NODES": "1",
    "GPUS": "1",
    "PREPARE": "jobs=1 keypoints=exact chunk_size=8",
    "EVALUATE": "evaluate evaluation.samples=2",
}


@pytest.mark.slow
def test_the_whole_way(checkout: Checkout, cluster: Cluster, base: object) -> None:
    settings = [word.format(base=base) for word in SETTINGS]
    printed = cluster("slurm/submit_all.sh", *settings, cwd=checkout.folder, **SHAPE)
    jobs = dict(re.findall(r"^(\w+) +job (\d+)", printed, re.M))
    assert list(jobs) == ["generate", "prepare", "hand", "outpaint", "export", "evaluate", "table"]
    assert f"stop      scancel {' '.join(jobs.values())}" in printed
    for name, job in jobs.items():
        states = cluster.wait(job)
        assert {state.state for state in states.values()} == {"COMPLETED"}, (name, checkout.log(job))
    assert (checkout.folder / "runs" / "chain" / "evaluation" / "index.html").is_file()
    assert "mask_iou" in checkout.log(jobs["table"])
    again = cluster("slurm/submit_all.sh", *settings, cwd=checkout.folder, **SHAPE)
    jobs = dict(re.findall(r"^(\w+) +job (\d+)", again, re.M))
    assert {state.state for state in cluster.wait(jobs["hand"]).values()} == {"COMPLETED"}, checkout.log(jobs["hand"])
    assert "is complete" in checkout.log(jobs["hand"])
    cluster("scancel", *jobs.values())


def test_a_dry_run_submits_nothing(checkout: Checkout, cluster: Cluster) -> None:
    before = cluster("squeue", "--noheader")
    done = cluster.result("slurm/submit_all.sh", "--dry-run", "preset=tiny", cwd=checkout.folder, **SHAPE)
    assert done.returncode == 0
    assert done.stderr.count("sbatch --job-name=h2d-chain-") == 7
    assert "--dependency=afterok:h2d-chain-prepare" in done.stderr
    assert cluster("squeue", "--noheader") == before


def test_a_mistake_in_any_job_keeps_all_out_of_the_queue(checkout: Checkout, cluster: Cluster) -> None:
    wrong = SHAPE | {"OUTPAINT": "outpaint optim.leraning_rate=1"}
    done = cluster.result("slurm/submit_all.sh", "preset=tiny", cwd=checkout.folder, **wrong)
    assert done.returncode == 2
    assert "optim.leraning_rate" in done.stderr
    assert cluster("squeue", "--noheader", "--name=h2d-chain-generate") == ""


def test_what_slurm_refuses_takes_the_chain_back(checkout: Checkout, cluster: Cluster) -> None:
    site = checkout.folder / "slurm" / "site.env"
    site.write_text(site.read_text().replace("SUBMIT_TRAIN=()", "").replace("--time=30)", "--partition=nowhere)"))
    done = cluster.result("slurm/submit_all.sh", "preset=tiny", cwd=checkout.folder, **SHAPE)
    assert done.returncode != 0
    assert "invalid partition specified: nowhere" in done.stderr
    assert cluster("squeue", "--noheader", "--name=h2d-chain-generate,h2d-chain-prepare", "--states=PD,R") == ""

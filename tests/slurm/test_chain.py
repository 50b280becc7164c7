"""``submit_all.sh``: from rendered people to the table, by jobs that wait for each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

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


def parts(folder: Path) -> tuple[dict[str, object], dict[str, bytes]]:
    """Numbers of an evaluation, without how they came about, and its rows and pictures."""
    numbers = json.loads((folder / "metrics.json").read_text())
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".npz", ".jpg", ".png", ".jsonl")]
    numbers.pop("provenance")
    return numbers, {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_the_whole_way(checkout: Checkout, cluster: Cluster, base: Path) -> None:
    """The evaluation by an array is that of a single process, too."""
    from h2d.cli import main

    settings = [word.format(base=base) for word in SETTINGS]
    printed = cluster("slurm/submit_all.sh", *settings, cwd=checkout.folder, **SHAPE)
    jobs = dict(re.findall(r"^(\w+) +job (\d+)", printed, re.M))
    assert list(jobs) == ["generate", "prepare", "hand", "outpaint", "export", "evaluate", "table"]
    assert f"stop      scancel {' '.join(jobs.values())}" in printed
    for name, job in jobs.items():
        states = cluster.wait(job)
        assert {state.state for state in states.values()} == {"COMPLETED"}, (name, checkout.log(job))
    runs = checkout.folder / "runs" / "chain"
    assert (runs / "evaluation" / "index.html").is_file()
    assert "mask_iou" in checkout.log(jobs["table"])
    words = ["evaluate", *SHAPE["EVALUATE"].split(), "--pipeline", str(runs / "pipeline"), *settings]
    shards = checkout.folder / "data" / "chain" / "shards"
    alone = checkout.folder / "alone"
    assert main([*words, f"data.shards={shards}", f"run.dir={alone}", "run.name=evaluation"]) == 0
    numbers, rows = parts(runs / "evaluation" / "h2d")
    assert (numbers, rows) == parts(alone / "evaluation" / "h2d")
    assert len(rows) > 3


def test_a_dry_run_submits_nothing(checkout: Checkout, cluster: Cluster) -> None:
    done = cluster.result("slurm/submit_all.sh", "--dry-run", "preset=tiny", cwd=checkout.folder, **SHAPE)
    assert done.returncode == 0
    assert done.stderr.count("sbatch --job-name=h2d-chain-") == 7
    assert "--dependency=afterok:h2d-chain-prepare" in done.stderr
    assert "h2d-chain" not in cluster("squeue", "--noheader", "--format=%j")


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

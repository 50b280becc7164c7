"""``submit_all.sh``: from rendered people to the table, by jobs that wait for each other."""

from __future__ import annotations

import json
import re
import shutil
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
    assert done.stderr.count("sbatch --job-name=") == 7
    assert "--dependency=afterok:prepare-chain" in done.stderr
    assert "-chain" not in cluster("squeue", "--noheader", "--format=%j")


def test_a_mistake_in_any_job_keeps_all_out_of_the_queue(checkout: Checkout, cluster: Cluster) -> None:
    wrong = SHAPE | {"OUTPAINT": "outpaint optim.leraning_rate=1"}
    done = cluster.result("slurm/submit_all.sh", "preset=tiny", cwd=checkout.folder, **wrong)
    assert done.returncode == 2
    assert "optim.leraning_rate" in done.stderr
    assert cluster("squeue", "--noheader", "--name=generate-chain") == ""


def test_what_slurm_refuses_keeps_all_out_too(checkout: Checkout, cluster: Cluster) -> None:
    site = checkout.folder / "slurm" / "site.env"
    site.write_text(site.read_text().replace("SUBMIT_EVALUATE=(--time=30)", "SUBMIT_EVALUATE=(--partition=nowhere)"))
    done = cluster.result("slurm/submit_all.sh", "preset=tiny", cwd=checkout.folder, **SHAPE)
    assert done.returncode == 2
    assert "error: Slurm refuses: sbatch: error: invalid partition specified: nowhere" in done.stderr
    assert cluster("squeue", "--noheader", "--name=generate-chain") == ""


def test_a_chain_that_breaks_off_is_taken_back(checkout: Checkout, cluster: Cluster, tmp_path: Path) -> None:
    """A controller that goes away, for example: here the third submission fails."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "sbatch"
    submitted = tmp_path / "submitted"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--test-only*) exec {shutil.which("sbatch")} "$@";; esac\n'
        f"echo >>{submitted}; [ $(wc -l <{submitted}) -lt 3 ] || exit 1\n"
        f'exec {shutil.which("sbatch")} "$@"\n'
    )
    program.chmod(0o755)
    path = f"{program.parent}:{cluster.environment['PATH']}"
    done = cluster.result("slurm/submit_all.sh", "preset=tiny", cwd=checkout.folder, PATH=path, **SHAPE)
    assert done.returncode == 1
    assert "prepare " in done.stdout
    assert cluster("squeue", "--noheader", "--name=generate-chain,prepare-chain", "--states=PD,R") == ""

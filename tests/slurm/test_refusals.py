"""Mistakes are told before the queue where that is possible, and in one line where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .cluster import Cluster
from .conftest import Checkout


def submit(checkout: Checkout, *words: str, **environment: str) -> tuple[int, str]:
    """Exit code and complaint of ``submit.sh``; nothing may have reached the queue."""
    assert checkout.cluster is not None
    done = checkout.cluster.result("slurm/submit.sh", *words, cwd=checkout.folder, **environment)
    assert done.stdout.strip() == ""
    return done.returncode, done.stderr


def test_without_the_site(checkout: Checkout) -> None:
    (checkout.folder / "slurm" / "site.env").unlink()
    code, said = submit(checkout, "train", "hand", "data.shards=x")
    assert code == 2
    assert "slurm/site.env is missing" in said
    assert "cp slurm/site.env.example slurm/site.env" in said


def test_with_the_example_as_it_is(checkout: Checkout, repository: Path) -> None:
    text = (repository / "slurm" / "site.env.example").read_text()
    (checkout.folder / "slurm" / "site.env").write_text(text)
    code, said = submit(checkout, "train", "hand", "data.shards=x")
    assert code == 2
    assert "still says CHANGE_ME" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("train hnad data.shards={shards}", "hnad"),
        ("train hand data.shards={shards} optim.lrr=1", "optim.lrr"),
        ("train hand data.shards={shards} trainer.devices=4", "trainer.devices is given twice"),
        ("train hand data.shards=nowhere", "nowhere"),
        ("train outpaint data.shards={shards} evaluation.partner=no.ckpt", "evaluation.partner=no.ckpt does not exist"),
        ("evaluate evaluate --pipeline p data.shards={shards}", "p is no pipeline folder"),
        ("evaluate evaluate data.shards={shards} --place a=b sampling.steps=2", "sampling.steps"),
        ("prepare all hagird root=/ out=data/x", "hagird"),
        ("prepare all hagrid root=/ out=data/x prset=paper", "prset"),
        ("prepare all hagrid root=/nowhere out=data/x", "root=/nowhere does not exist"),
        ("trian hand data.shards={shards}", "slurm/submit.sh [OPTION ...]"),
        ("train", "slurm/submit.sh [OPTION ...]"),
    ],
)
def test_what_the_job_would_refuse(words: str, complaint: str, checkout: Checkout, shards: Path) -> None:
    code, said = submit(checkout, *words.format(shards=shards).split())
    assert code == 2
    assert complaint in said


@pytest.mark.parametrize(
    ("shape", "kind", "complaint"),
    [
        ({"GPUS": "x"}, "train", "error: GPUS=x"),
        ({"NODES": "0"}, "train", "error: NODES=0"),
        ({"SHARES": "two"}, "evaluate", "error: SHARES=two"),
        ({"GPUS": "7"}, "train", "trainer.global_batch 32 is not a multiple of 7 = 7 devices x 1 nodes"),
        ({"GPUS": "16"}, "train", "error: Slurm refuses: allocation failure: Requested node configuration"),
    ],
    ids=lambda value: str(value),
)
def test_shapes_that_cannot_be(
    shape: dict[str, str], kind: str, complaint: str, checkout: Checkout, shards: Path
) -> None:
    code, said = submit(checkout, kind, "hand", f"data.shards={shards}", **shape)
    assert code == 2
    assert complaint in said


def test_a_partition_that_does_not_exist(checkout: Checkout, shards: Path) -> None:
    site = checkout.folder / "slurm" / "site.env"
    site.write_text(site.read_text().replace("SUBMIT=()", "SUBMIT=(--partition=nowhere)"))
    code, said = submit(checkout, "train", "hand", f"data.shards={shards}")
    assert code == 2
    assert "invalid partition specified: nowhere" in said
    assert "in slurm/site.env" in said


def test_a_missing_log_folder_is_made(checkout: Checkout, cluster: Cluster) -> None:
    (checkout.folder / "slurm" / "logs").rmdir()
    job = cluster("slurm/submit.sh", "command", "config", "list", cwd=checkout.folder)
    assert cluster.wait(job)[""].state == "COMPLETED", checkout.log(job)
    assert "outpaint" in checkout.log(job)


def test_a_run_that_a_job_waits_for(checkout: Checkout, cluster: Cluster, shards: Path) -> None:
    job = cluster("sbatch", "--parsable", "--hold", "--output=/dev/null", f"--comment={checkout.folder}/runs/hand",
                  "--wrap=true", cwd=checkout.folder)  # fmt: skip
    code, said = submit(checkout, "train", "hand", f"data.shards={shards}", "run.dir=./runs")
    cluster("scancel", job)
    assert code == 2
    assert f"job {job} trains in {checkout.folder}/runs/hand" in said


@pytest.fixture
def refused(checkout: Checkout, cluster: Cluster, world: list[str]) -> Callable[..., str]:
    """Submits a training past all checks; the complaint that its job ends with."""

    def run(*words: str) -> str:
        options = [word for word in words if word.startswith("--")]
        settings = [word for word in words if not word.startswith("--")]
        chosen = {word.partition("=")[0]: word for word in (*world, *settings)}
        job = checkout.sbatch(*options, "slurm/train.sbatch", "hand", *chosen.values())
        state = cluster.wait(job, seconds=60)[""]
        assert (state.state, state.code, state.restarts) == ("FAILED", "2:0", 0), checkout.log(job)
        log = checkout.log(job)
        assert sum(line.startswith("error: ") for line in log.splitlines()) == 1, log
        return log

    return run


def test_tasks_that_are_no_devices(refused: Callable[..., str]) -> None:
    shape = ("--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=1")
    said = refused(*shape, "trainer.global_batch=8", "data.batch_size=1", "trainer.accelerator=gpu")
    assert "sees 1 GPUs, the experiment wants trainer.devices=2" in said


def test_a_setting_that_does_not_exist(refused: Callable[..., str]) -> None:
    """Submitted past submit.sh: two ranks, one message."""
    assert "optim.lrr" in refused("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "optim.lrr=1")


def test_a_run_that_another_job_is_at(refused: Callable[..., str], checkout: Checkout, cluster: Cluster) -> None:
    other = cluster("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 60", cwd=checkout.folder)
    cluster.wait(other, until=["RUNNING"])
    folder = checkout.folder / "runs" / "hand"
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps({"starts": [{"job": other}]}))
    said = refused()
    cluster("scancel", other)
    assert f"error: job {other} trains in {folder}" in said

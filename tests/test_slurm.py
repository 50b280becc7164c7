from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from h2d import slurm
from h2d.errors import ConfigError, SetupError
from h2d.experiment import Experiment, TrainerConfig
from h2d.slurm import Task, check_job, one_voice, problems

TASK = Task(job="7", name="h2d-train", rank=0, tasks=16, nodes=2, per_node=8, gpus=8, stepped=True)
VARIABLES = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "h2d-train",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "16",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "8",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURM_STEP_ID": "0",
}


def experiment(devices: int = 8, nodes: int = 2, accelerator: Any = "gpu") -> Experiment:
    return Experiment(trainer=TrainerConfig(devices=devices, num_nodes=nodes, accelerator=accelerator))


def complaints(task: Task, **trainer: Any) -> list[str]:
    return [f"{what}; {change}" for what, change in problems(task, experiment(**trainer))]


def test_a_task_as_slurm_tells_it() -> None:
    assert Task.read(VARIABLES) == replace(TASK, rank=3)


def test_no_task_outside_a_job_and_under_torchrun() -> None:
    assert Task.read({}) is None
    assert Task.read(VARIABLES | {"TORCHELASTIC_RUN_ID": "x"}) is None


def test_numbers_of_processes_that_share_work() -> None:
    assert slurm.number_among_others({}) == 0
    assert slurm.number_among_others({"RANK": "3"}) == 3
    assert slurm.number_among_others({"SLURM_ARRAY_TASK_ID": "5", "SLURM_PROCID": "0"}) == 5


def test_gpus_are_those_that_a_task_sees() -> None:
    task = Task.read(VARIABLES | {"CUDA_VISIBLE_DEVICES": "0"})
    assert task is not None
    assert task.gpus == 1


def test_what_fits() -> None:
    assert complaints(TASK) == []
    assert complaints(replace(TASK, gpus=None)) == []
    assert complaints(replace(TASK, tasks=1, nodes=1, per_node=None, stepped=False), devices=1, nodes=1) == []


@pytest.mark.parametrize(
    ("changes", "trainer", "words"),
    [
        ({}, {"devices": 4}, "job 7 has 16 tasks on 2 nodes, the experiment trainer.devices=4 trainer.num_nodes=2; "
         "submit with --nodes=2 --ntasks-per-node=4, or set trainer.devices=8 trainer.num_nodes=2"),
        ({}, {"nodes": 1}, "the experiment trainer.devices=8 trainer.num_nodes=1"),
        ({"per_node": None}, {}, "how many of them are on a node is open; use --nodes=2 --ntasks-per-node=8"),
        ({"stepped": False}, {}, "put srun before the command"),
        ({"name": "interactive"}, {}, "name it otherwise with --job-name"),
        ({"gpus": 4}, {}, "each task of job 7 sees 4 GPUs, the experiment wants trainer.devices=8; submit with "
         "--gpus-per-node=8"),
    ],
)  # fmt: skip
def test_what_does_not(changes: dict[str, Any], trainer: dict[str, Any], words: str) -> None:
    (complaint, *_) = complaints(replace(TASK, **changes), **trainer)
    assert words in complaint


def test_lightning_starts_the_ranks_of_an_interactive_job_itself() -> None:
    assert complaints(replace(TASK, name="interactive", stepped=False, tasks=1, nodes=1), nodes=1) == []


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("in_a_job")
def test_the_first_task_speaks_for_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with one_voice():
        check_job(experiment(), tmp_path)
    monkeypatch.setattr(slurm, "OTHERS_WAIT_S", 0.2)
    for rank in ("0", "3"):  # the others speak too when they are not ended
        monkeypatch.setenv("SLURM_PROCID", rank)
        with pytest.raises(ConfigError, match="16 tasks on 2 nodes"), one_voice():
            check_job(experiment(devices=4), tmp_path)
    monkeypatch.setattr(slurm, "stop_requested", lambda: True)
    with pytest.raises(SystemExit), one_voice():
        check_job(experiment(devices=4), tmp_path)


@pytest.mark.usefixtures("in_a_job")
@pytest.mark.parametrize(
    ("record", "runs"), [('{"starts": [{"job": "6"}]}', True), ('{"starts": [{"job": "6"}]}', False)]
)
def test_a_folder_that_another_job_has(
    record: str, runs: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setattr(slurm, "_runs", lambda job: runs)
    (tmp_path / "provenance.json").write_text(record)
    if runs:
        with pytest.raises(SetupError, match=f"job 6 trains in {tmp_path}"):
            check_job(experiment(), tmp_path)
    else:
        check_job(experiment(), tmp_path)


@pytest.mark.usefixtures("in_a_job")
@pytest.mark.parametrize("record", ["", "{}", "[1", '{"starts": []}', '{"starts": [{"command": "h2d"}]}',
                                    '{"starts": [{"job": "7"}]}'])  # fmt: skip
def test_records_of_no_other_job(record: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None, damaged, of an older version, or this job's own from before it was requeued."""
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setattr(slurm, "_runs", lambda job: True)
    (tmp_path / "provenance.json").write_text(record)
    check_job(experiment(), tmp_path)

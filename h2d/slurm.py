"""What Slurm says about this job, compared with the experiment before anything heavy is loaded. Imports no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from h2d.errors import ConfigError, H2DError, SetupError
from h2d.experiment import Experiment
from h2d.stopping import stop_requested

IGNORED_NAMES = ("bash", "interactive")
"""Job names under which Lightning does not see Slurm."""
OTHERS_WAIT_S = 5
"""Seconds that the other tasks leave the first one to say what is wrong with all of them."""


@dataclass(frozen=True)
class Task:
    """One task of a job.

    Args:
        job: number of the job; of a task of an array, its own.
        name: of the job.
        rank: of this task among all.
        tasks: of the step, over all nodes.
        nodes: of the step.
        per_node: ``--ntasks-per-node``; None where it was not given.
        gpus: on this node that the task sees; None where Slurm counts none.
        stepped: whether ``srun`` started this task.
    """

    job: str
    name: str
    rank: int
    tasks: int
    nodes: int
    per_node: int | None
    gpus: int | None
    stepped: bool

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Task | None:
        """This process as a task; None outside a job, and where torchrun has made the processes."""
        if not {"SLURM_JOB_ID", "SLURM_NTASKS"} <= environment.keys() or "TORCHELASTIC_RUN_ID" in environment:
            return None
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        return cls(
            job=environment["SLURM_JOB_ID"],
            name=environment.get("SLURM_JOB_NAME", ""),
            rank=int(environment.get("SLURM_PROCID", "0")),
            tasks=int(environment["SLURM_NTASKS"]),
            nodes=int(environment.get("SLURM_NNODES", "1")),
            per_node=_count(environment.get("SLURM_NTASKS_PER_NODE")),
            gpus=len(visible.split(",")) if visible else _count(environment.get("SLURM_GPUS_ON_NODE")),
            stepped="SLURM_STEP_ID" in environment,
        )


@contextmanager
def one_voice() -> Iterator[None]:
    """Of several tasks with the same error the first one speaks: its end ends the others while they wait to."""
    try:
        yield
    except H2DError as error:
        task = Task.read()
        end = time.monotonic() + OTHERS_WAIT_S
        while task is not None and task.rank > 0 and time.monotonic() < end:
            if stop_requested():  # srun's way to say that the first task has ended
                sys.exit(error.exit_code)
            time.sleep(0.1)
        raise


def check_job(experiment: Experiment, folder: Path) -> None:
    """Find out, before ranks wait for each other for ever, whether the job is what the experiment wants.

    Does nothing outside a job.

    Args:
        experiment: ``trainer`` is used.
        folder: of the run.

    Raises:
        ConfigError: tasks, nodes or GPUs are others than the experiment's.
        SetupError: another job that runs has the folder.
    """
    task = Task.read()
    if task is None:
        return
    for what, change in problems(task, experiment):
        raise ConfigError(what, change)
    if task.rank == 0 and (owner := _owner(folder)) not in (None, task.job) and _runs(owner):
        raise SetupError(
            f"job {owner} trains in {folder}", f"wait for it, `scancel {owner}`, or choose another run.name"
        )


def problems(task: Task, experiment: Experiment) -> Iterator[tuple[str, str]]:
    """What does not fit, and what to change."""
    devices, nodes = experiment.trainer.devices, experiment.trainer.num_nodes
    wanted = f"trainer.devices={devices} trainer.num_nodes={nodes}"
    options = f"--nodes={nodes} --ntasks-per-node={devices}"
    if task.name in IGNORED_NAMES and not task.stepped:  # Lightning starts the processes itself
        return
    if not task.stepped and task.tasks > 1:
        yield f"job {task.job} has {task.tasks} tasks, and this is none of them", "put srun before the command"
    if task.tasks > 1 and task.name in IGNORED_NAMES:
        yield f"Lightning takes a job named {task.name} for an interactive one", "name it otherwise with --job-name"
    if task.tasks > 1 and task.per_node is None:
        yield f"job {task.job} has {task.tasks} tasks, and how many of them are on a node is open", f"use {options}"
    if task.nodes != nodes or task.tasks != devices * nodes:
        tasks = f"{task.tasks} tasks on {task.nodes} nodes"
        change = f"trainer.devices={task.tasks // task.nodes} trainer.num_nodes={task.nodes}"
        yield f"job {task.job} has {tasks}, the experiment {wanted}", f"submit with {options}, or set {change}"
    if experiment.trainer.accelerator == "gpu" and task.gpus is not None and task.gpus < devices:
        yield (
            f"each task of job {task.job} sees {task.gpus} GPUs, the experiment wants trainer.devices={devices}",
            f"submit with --gpus-per-node={devices}, and not with --gpus-per-task, which hides the others' GPUs",
        )


def job_id() -> str | None:
    """Number of the job that this process is part of."""
    return os.environ.get("SLURM_JOB_ID")


def number_among_others(environment: Mapping[str, str] = os.environ) -> int:
    """Of the task of an array, of the task of a step, or of torchrun's process; 0 alone."""
    process = environment.get("SLURM_PROCID") or environment.get("RANK") or "0"
    return int(environment.get("SLURM_ARRAY_TASK_ID") or "0") + int(process)


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _owner(folder: Path) -> str | None:
    """The job that trained in a run's folder last, as its record says (:func:`h2d.runs.write_records`)."""
    try:
        return json.loads((folder / "provenance.json").read_text())["starts"][-1]["job"]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def _runs(job: str | None) -> bool:
    """Whether a job has nodes now; False where Slurm cannot be asked, as in most containers."""
    try:
        words = ["squeue", "--noheader", "--jobs", str(job), "--states", "RUNNING,SUSPENDED", "--format", "%i"]
        return bool(subprocess.run(words, capture_output=True, timeout=30, check=False).stdout.strip())
    except (OSError, subprocess.SubprocessError):
        return False

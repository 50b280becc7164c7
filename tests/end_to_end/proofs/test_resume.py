"""A stopped training goes on as if it had never stopped: in the middle of an epoch, to the last bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from h2d.runs import checkpoints_of, step_of

RECIPE = (
    "trainer.max_steps=20",
    "trainer.global_batch=6",  # an epoch of 12 samples takes two steps
    "data.batch_size=2",  # three accumulated batches
    "optim.ema_decay=0.9",
    "optim.schedule=cosine",
    "optim.warmup_steps=3",
    "trainer.val_every_n_steps=7",
    "checkpoint.every_n_steps=1",
    "checkpoint.keep=-1",
    "evaluation.split=none",
)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("task", ["hand", "outpaint"])
def test_resume_at_random_steps_is_bit_identical(
    task: str,
    workers: int,
    smoke: Callable[..., Any],
    tmp_path: Path,
    same_state: Callable[..., list[str]],
    long: bool,
    figures: Callable[[str], None],
) -> None:
    """Weights, their average, the optimiser, the schedule: with accumulation, at any step, with loader workers."""
    import torch

    from h2d.train import train

    steps = 20 if long else 8
    if not long and (task == "hand") == (workers == 0):
        pytest.skip("the long form only (--proof)")

    def trained(name: str, resume: str = "never") -> tuple[Path, dict[str, Any]]:
        settings = (*RECIPE[1:], f"run.name={name}", f"data.num_workers={workers}", f"trainer.max_steps={steps}")
        folder = train(smoke(tmp_path, task, *settings), resume)
        return folder, torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)

    folder, whole = trained("whole")
    stops = sorted(random.Random(task).sample(range(1, steps), 10 if long else 1))
    for stop in stops:
        _, resumed = trained(f"from-{stop}", str(folder / "checkpoints" / f"step-{stop:07d}.ckpt"))
        assert same_state(resumed, whole) == [], stop
        shutil.rmtree(tmp_path / f"from-{stop}")
    assert "current_model_state" in whole, "there is an average"
    figures(f"{len(stops)} of {len(stops)} resumed runs bit-identical, {task}, {workers} workers")


def killed_at_random(process: subprocess.Popen[str], checkpoints: Path, wait: float) -> None:
    """SIGKILL to the whole group, some time after the first checkpoint of this start."""
    before = checkpoints_of(checkpoints.parent)[:1]
    while process.poll() is None and checkpoints_of(checkpoints.parent)[:1] == before:
        time.sleep(0.02)
    time.sleep(wait)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_kills_at_random_moments_change_nothing(
    launch: Callable[..., subprocess.Popen[str]],
    run: Callable[..., Any],
    tmp_path: Path,
    same_state: Callable[..., list[str]],
    long: bool,
    figures: Callable[[str], None],
) -> None:
    """The same command again and again, each time killed, ends with the bits of the run that was left alone."""
    settings = [item for item in RECIPE if "keep" not in item] + [
        "data.num_workers=1",
        f"trainer.max_steps={60 if long else 20}",
    ]
    whole, kills, rng = run("hand", "whole", *settings).checkpoint, 0, random.Random(0)
    for _ in range(20 if long else 1):
        process = launch("hand", "killed", *settings)
        killed_at_random(process, tmp_path / "killed" / "checkpoints", rng.uniform(0, 0.3))
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    newest = checkpoints_of(tmp_path / "killed")[0]
    killed = run("hand", "killed", *settings)
    assert kills > 0
    assert same_state(killed.checkpoint, whole) == []
    assert not list((tmp_path / "killed").rglob("*.tmp"))
    figures(f"{kills} SIGKILLs, the last at step {step_of(newest)} or later of 60: bit-identical")

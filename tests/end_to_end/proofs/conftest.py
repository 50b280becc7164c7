"""What the proofs of training share: real trainings in processes of their own, with faults, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from ...checkpoint_states import state_differences

DRIVER = Path(__file__).with_name("driver.py")


class Training(NamedTuple):
    """A training that ended: its folder, exit code and what it printed."""

    folder: Path
    code: int
    output: str

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The last checkpoint."""
        return torch.load(self.folder / "checkpoints" / "last.ckpt", weights_only=True)

    def ranks(self) -> list[dict[str, Any]]:
        """What each rank noted at its end."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("rank-*.json"))]


@pytest.fixture
def launch(shards: Path, base: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts ``driver.py``, which is `h2d train` with faults, in a process group of its own."""

    def start(task: str, name: str, *overrides: str, resume: str = "auto", **faults: Any) -> subprocess.Popen[str]:
        world = {
            "preset": "smoke",
            "image_size": 64,
            "run.dir": tmp_path,
            "run.name": name,
            "data.shards": shards,
            "model.base": base,
            "trainer.accelerator": "cpu",
            "evaluation.split": "none",
        }
        chosen = [f"{key}={value}" for key, value in (world | dict(item.split("=", 1) for item in overrides)).items()]
        return subprocess.Popen(
            [sys.executable, str(DRIVER), json.dumps(faults), resume, task, *chosen],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    return start


@pytest.fixture
def run(launch: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Callable[..., Training]:
    """The same, until it ends; an exit code other than the expected one fails with its output."""

    def whole(task: str, name: str, *overrides: str, expect: int = 0, seconds: float = 120, **more: Any) -> Training:
        process = launch(task, name, *overrides, **more)
        try:
            output, _ = process.communicate(timeout=seconds)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
        assert process.returncode == expect, output
        return Training(tmp_path / name, process.returncode, output)

    return whole


@pytest.fixture
def same_state() -> Callable[[dict[str, Any], dict[str, Any]], list[str]]:
    """Names of what differs between the ends of two runs."""
    return state_differences

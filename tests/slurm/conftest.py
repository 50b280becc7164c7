"""A real Slurm on this machine, and a checkout that jobs are submitted from with the shipped files as they are."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..end_to_end.conftest import base, shards, smoke, stages
from .cluster import PACKAGES, Cluster, missing

__all__ = ["base", "shards", "smoke", "stages"]  # fixtures

BIN = Path(sys.executable).parent
SITE = """\
SUBMIT=()
SUBMIT_PREPARE=(--gpus-per-node=0)
SUBMIT_TRAIN=(--time=30)
SUBMIT_EVALUATE=(--time=30)
DATA={folder}/data
RUNS={folder}/runs
MODULES=()
H2D_BIN={bin}
CONTAINER=()
"""


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """Two nodes."""
    if lacking := missing():
        pytest.skip(f"no Slurm on this machine, {lacking[0]} is missing (Debian: apt-get install {PACKAGES})")
    started = Cluster()
    yield started
    started.stop()
    assert not started._job_processes()


class Checkout:
    """The folder that jobs are submitted from."""

    def __init__(self, folder: Path, cluster: Cluster | None, repository: Path) -> None:
        self.folder, self.cluster = folder, cluster
        shipped = shutil.ignore_patterns("site.env", "logs", "__pycache__")
        shutil.copytree(repository / "slurm", folder / "slurm", ignore=shipped)
        (folder / "slurm" / "logs").mkdir()
        self.site(BIN)

    def site(self, bin: Path) -> None:
        """Write site.env."""
        (self.folder / "slurm" / "site.env").write_text(SITE.format(folder=self.folder, bin=bin))

    def sbatch(self, *words: Any, **environment: str) -> str:
        """Submit as a user does without make; the number of the job."""
        assert self.cluster is not None
        return self.cluster("sbatch", "--parsable", *words, cwd=self.folder, **environment)

    def log(self, job: str) -> str:
        """What a job, or all tasks of an array, have said so far."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob(f"slurm/logs/*-{job}*.out")))

    def until(self, job: str, words: str, seconds: float = 120) -> None:
        """Wait for words in the log of a job."""
        end = time.monotonic() + seconds
        while words not in (log := self.log(job)):
            assert time.monotonic() < end, f"{words!r} is not in the log of job {job}:\n{log}"
            time.sleep(0.1)


@pytest.fixture
def make_checkout(cluster: Cluster, tmp_path: Path, repository: Path) -> Callable[[str], Checkout]:
    """Makes one of that name."""

    def make(name: str) -> Checkout:
        (tmp_path / name).mkdir()
        return Checkout(tmp_path / name, cluster, repository)

    return make


@pytest.fixture
def checkout(make_checkout: Callable[[str], Checkout]) -> Checkout:
    """One of them."""
    return make_checkout("checkout")


@pytest.fixture
def world(shards: Path, base: Path) -> list[str]:
    """Settings of a training of seconds."""
    return [
        "preset=smoke",
        "image_size=64",
        f"data.shards={shards}",
        f"model.base={base}",
        "trainer.accelerator=cpu",
        "evaluation.detector=none",
    ]

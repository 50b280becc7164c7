"""Fixtures of every test: no network, and the photographs of a developer's machine where there are any."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

# One thread: how a sum is shared out decides its last bit, and the tests' networks are too small to gain by more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GLOG_minloglevel", "3")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proof", action="store_true", help="the long forms of the proofs: faults by the thousand")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Gives a file system with such options, or changes it; skips the test where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        again = "remount," if folder.is_mount() else ""
        words = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(folder)]
        if subprocess.run(words, capture_output=True).returncode:
            pytest.skip("this user may not mount a small file system")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def seal() -> Callable[[Any, Path], Path]:
    """``seal(content, path)`` leaves a sealed file, whatever is in it."""
    import torch

    from h2d.seals import SealedFile

    def write(content: Any, path: Path) -> Path:
        with open(path, "wb") as file:
            sealed = SealedFile(file)
            torch.save(content, sealed)
            sealed.seal()
        return path

    return write


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def photographs() -> Path:
    """Real photographs, which are never part of the repository: ``H2D_PHOTOGRAPHS`` or ``../shared/real``."""
    folder = Path(os.environ.get("H2D_PHOTOGRAPHS", REPOSITORY.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip("no real photographs on this machine (set H2D_PHOTOGRAPHS to a folder of them)")
    return folder


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the long forms are asked for."""
    return bool(request.config.getoption("--proof"))


@pytest.fixture
def only_long(long: bool) -> None:
    """Skips what would take too long for every test run."""
    if not long:
        pytest.skip("the long form only (--proof)")


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes the line that the long form prints in the end."""
    return partial(record_property, "figures")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for report in terminalreporter.stats.get("passed", []) if config.getoption("--proof") else []:
        for name, text in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {text}")

"""Fixtures of every test: no network, and the photographs of a developer's machine where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GLOG_minloglevel", "3")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proof", action="store_true", help="the long forms of the proofs: faults by the thousand")


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

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from data_prep.synthetic import generate


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw data of nine rendered people. Tests must not change it."""
    root = tmp_path_factory.mktemp("people") / "raw"
    with contextlib.redirect_stdout(io.StringIO()):
        generate(root, 9, seed=3, size=384, jobs=1, supersampling=1)
    return root

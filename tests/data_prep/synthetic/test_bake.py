from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from data_prep.synthetic import bake


def test_missing_anny_is_explained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("anny"):
        pytest.skip("anny is installed")
    monkeypatch.setattr(sys, "argv", ["bake", "out.npz"])
    assert bake.main() == 2
    assert "pip install" in capsys.readouterr().err


def test_the_file_name_is_required(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bake"])
    assert bake.main() == 2
    assert "OUT.npz" in capsys.readouterr().err


def test_random_adults_are_within_annys_range() -> None:
    for k in range(50):
        phenotype = bake.draw_phenotype(np.random.default_rng(k))
        assert all(0 <= value <= 1 for value in phenotype.values())
        assert phenotype["age"] > 0.5, "adults only"
        assert sum(phenotype[name] for name in ("african", "asian", "caucasian")) == pytest.approx(1)

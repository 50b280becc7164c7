from __future__ import annotations

from pathlib import Path

import pytest

from h2d.doctor import report
from h2d.weights import WEIGHTS, WeightFile


def test_it_says_which_weights_are_there_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path))
    base = next(weights for weights in WEIGHTS if weights.name == "sam-vit-b")
    assert isinstance(base, WeightFile)
    with open(tmp_path / base.file, "wb") as sparse:
        sparse.truncate(base.size)
    lines = [line.strip() for line in report().splitlines()]
    assert f"sam-vit-b          0.38 GB  present: {base.place}" in lines
    assert f"sam-vit-h          2.56 GB  missing: {tmp_path / 'sam_vit_h_4b8939.pth'}" in lines
    assert f"sam-vit-l          1.25 GB  missing, but optional: {tmp_path / 'sam_vit_l_0b3195.pth'}" in lines
    for weights in WEIGHTS:
        assert f"for {weights.needed_by}" in lines

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from data_prep import measure_masks
from data_prep.__main__ import main


def test_the_fallback_overlaps_the_exact_masks(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(people, tmp_path / "raw")
    for stage in ("index", "keypoints"):
        assert main([stage, "synthetic", f"out={tmp_path}", "jobs=1"]) == 0
    capsys.readouterr()
    measure_masks.main(str(tmp_path))
    found = re.match(r"(\d+) hands: IoU mean ([\d.]+), median", capsys.readouterr().out)
    assert found is not None
    assert int(found[1]) >= 8
    assert float(found[2]) > 0.85

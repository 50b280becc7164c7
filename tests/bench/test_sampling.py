from __future__ import annotations

import re
from pathlib import Path

import pytest

from h2d.bench.sampling import ALONE, QUICK, bench_sampling
from h2d.pipelines.two_stage import TwoStagePipeline

from ..pipelines.conftest import components, pipeline

__all__ = ["components", "pipeline"]  # fixtures


def test_a_batch_a_quick_scheduler_and_one_by_one(pipeline: TwoStagePipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "pipeline")
    table = bench_sampling(tmp_path / "pipeline", images=2, steps=4, rounds=2, device="cpu", dtype="float32")
    assert [row.name for row in table.rows] == ["batch of 2", f"batch of 2, {QUICK}", ALONE]
    together, quick, alone = (row.timing.median for row in table.rows)
    assert [row.figures["ratio"] for row in table.rows] == pytest.approx([alone / together, alone / quick, 1])
    assert f"4 steps of each stage ({QUICK}: 2)" in table.notes[0]
    apart = re.search(r"largest difference of a pixel .*: ([\d.]+) of 255", table.notes[-1])
    assert apart is not None
    assert float(apart[1]) < 0.1

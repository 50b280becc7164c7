from __future__ import annotations

from pathlib import Path

import pytest

from h2d.bench.preparation import (
    GRABCUT,
    KEYPOINTS,
    LLAVA,
    LLAVA_ALONE,
    SAM,
    SAM_ALONE,
    PrepRequest,
    bench_preparation,
)

from ..annotators.conftest import short_captions, tiny_llava, tiny_sam_checkpoint
from ..end_to_end.conftest import shards

__all__ = ["shards", "short_captions", "tiny_llava", "tiny_sam_checkpoint"]  # fixtures


def test_every_annotator_is_measured(shards: Path, tiny_sam_checkpoint: Path, tiny_llava: Path) -> None:
    request = PrepRequest(str(shards), tiny_sam_checkpoint, str(tiny_llava), images=2, batch=2, rounds=1, device="cpu")
    table = bench_preparation(request)
    assert [row.name for row in table.rows] == [KEYPOINTS, GRABCUT, SAM, SAM_ALONE, LLAVA, LLAVA_ALONE]
    ratios = {row.name: row.figures["ratio"] for row in table.rows}
    seconds = {row.name: row.timing.median for row in table.rows}
    assert ratios[KEYPOINTS] is ratios[SAM_ALONE] is None
    assert ratios[SAM] == pytest.approx(seconds[SAM_ALONE] / seconds[SAM])
    assert ratios[LLAVA] == pytest.approx(seconds[LLAVA_ALONE] / seconds[LLAVA])


def test_without_weights_there_are_two(shards: Path) -> None:
    table = bench_preparation(PrepRequest(str(shards), None, None, images=1, batch=1, rounds=1, device="cpu"))
    assert [row.name for row in table.rows] == [KEYPOINTS, GRABCUT]

from __future__ import annotations

from pathlib import Path

import pytest

from h2d.bench.loading import PILLOW
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
from h2d.errors import SetupError

from ..annotators.conftest import short_captions, tiny_llava, tiny_sam_checkpoint
from ..end_to_end.conftest import shards

__all__ = ["shards", "short_captions", "tiny_llava", "tiny_sam_checkpoint"]  # fixtures


def test_every_annotator_is_measured(shards: Path, tiny_sam_checkpoint: Path, tiny_llava: Path) -> None:
    request = PrepRequest(str(shards), tiny_sam_checkpoint, str(tiny_llava), images=2, batch=2, rounds=1, device="cpu")
    table = bench_preparation(request)
    assert [row.name for row in table.rows] == [KEYPOINTS, GRABCUT, SAM, SAM_ALONE, LLAVA, LLAVA_ALONE, PILLOW]
    ratios = {row.name: row.figures["ratio"] for row in table.rows}
    seconds = {row.name: row.timing.median for row in table.rows}
    assert ratios[KEYPOINTS] is ratios[SAM_ALONE] is None
    assert ratios[SAM] == pytest.approx(seconds[SAM_ALONE] / seconds[SAM])
    assert ratios[LLAVA] == pytest.approx(seconds[LLAVA_ALONE] / seconds[LLAVA])


def test_without_weights_there_are_two(shards: Path) -> None:
    table = bench_preparation(PrepRequest(str(shards), None, None, images=1, batch=1, rounds=1, device="cpu"))
    assert [row.name for row in table.rows] == [KEYPOINTS, GRABCUT, PILLOW]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.pth", r"--sam .*none\.pth does not exist"), ("sam.pth", "cannot tell SAM's architecture")],
)
def test_what_is_no_file_of_sam(name: str, message: str, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "sam.pth").write_bytes(b"")
    request = PrepRequest(str(shards), tmp_path / name, None, images=1, batch=1, rounds=1, device="cpu")
    with pytest.raises(SetupError, match=message) as caught:
        bench_preparation(request)
    assert "sam_model=" not in str(caught.value.hint)

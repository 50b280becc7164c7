from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from h2d.bench.loading import OTHERS, PILLOW, SHARDS, bench_loading

from ..end_to_end.conftest import base, shards, smoke

__all__ = ["base", "shards", "smoke"]  # fixtures


@pytest.mark.parametrize("task", ["hand", "outpaint"])
def test_samples_of_one_core(task: str, smoke: Callable[..., Any], tmp_path: Path) -> None:
    table = bench_loading(smoke(tmp_path, task), 4, None, samples=4, rounds=2)
    assert [row.name for row in table.rows] == [SHARDS, OTHERS, PILLOW]
    assert all(row.timing.count == 2 for row in table.rows)
    for row in table.rows:
        assert row.figures["samples/s"] == pytest.approx(1 / row.timing.median)

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from h2d.errors import DataError
from h2d.evaluation.rows import Row, Store, stacked
from h2d.grids import HEADER
from h2d.pictures import Picture

from .conftest import PEOPLE, SIZE


def row(number: int, **changes: object) -> Row:
    rng = np.random.default_rng(number)
    pose = rng.uniform(-3, 99, (133, 3)).astype(np.float32)
    facts = {"found": pose, "score": 0.1 + 1e-17, "truth": pose[::-1].copy(), "mask_ious": (1 / 3, 0.0)}
    remarks = ("no hand found: the left one", "café")
    return Row(**{"number": number, "key": f"s/{number}", "gesture": "", **facts, "remarks": remarks, **changes})


def picture(number: int) -> Picture:
    image = np.random.default_rng(number).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    nothing = torch.zeros(0, 1, 4, 4)
    return Picture(number, PEOPLE[0], {"pose": 255 - image, "result": image}, nothing, nothing)


def same(one: Row, other: Row) -> None:
    for field in fields(Row):
        here, there = getattr(one, field.name), getattr(other, field.name)
        if isinstance(here, np.ndarray):
            assert here.dtype == there.dtype == np.float32
            np.testing.assert_array_equal(here, there)
        else:
            assert here == there, field.name


@pytest.mark.parametrize("changes", [{}, {"found": None, "mask_ious": (), "remarks": ()}])
def test_a_row_comes_back_to_the_last_bit(changes: dict) -> None:
    one = row(3, **changes)
    line = one.to_json()
    assert "\n" not in line
    same(Row.from_json(line), one)


def test_kinds_are_remarks_without_details() -> None:
    assert row(0).kinds == ("no hand found", "café")


def store_of(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.write(2, [row(4), row(7)], [picture(4), picture(7)], strips={7})
    return store


def test_a_batch_comes_back_with_its_pictures_and_strips(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    assert store.has(2, (4, 7))
    assert not store.has(1, (4, 7))
    assert not store.has(2, (4, 8))
    rows = store.read(2, (4, 7))
    assert [one.number for one in rows] == [4, 7]
    for one in rows:
        np.testing.assert_array_equal(store.picture(one), picture(one.number).image)
    (strip,) = store.strips([4, 7])
    assert strip.shape[1] > strip.shape[0]
    assert {path.name for path in (tmp_path / "stages").iterdir()} == {"000007.png"}


def test_strips_under_each_other_have_one_header() -> None:
    strip = np.zeros((HEADER + 10, 20, 3), np.uint8)
    table = stacked([strip, strip, strip])
    assert table is not None
    assert table.shape == (HEADER + 30, 20, 3)
    assert stacked([]) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: lines[:1],
        lambda lines: lines[::-1],
        lambda lines: [lines[0][:-9], lines[1]],
        lambda lines: [json.dumps(json.loads(lines[0]) | {"more": 1}), lines[1]],
        lambda lines: [json.dumps(json.loads(lines[0]) | {"found": [[1, 2, 3]]}), lines[1]],
        lambda lines: [json.dumps(json.loads(lines[0]) | {"truth": [[float("nan")] * 3] * 133}), lines[1]],
        lambda lines: ["7", lines[1]],
    ],
)
def test_rows_that_are_not_what_was_written_are_named(spoil: object, tmp_path: Path) -> None:
    store, path = store_of(tmp_path), tmp_path / "rows" / "000002.jsonl"
    path.write_text("\n".join(spoil(path.read_text().splitlines())))  # type: ignore[operator]
    with pytest.raises(DataError, match=str(path)) as caught:
        store.read(2, (4, 7))
    assert "remove it" in str(caught.value.hint)


def test_a_picture_that_is_not_what_was_evaluated_is_named(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    (first, second), path = store.read(2, (4, 7)), store.picture_path(4)
    path.write_bytes(store.picture_path(7).read_bytes())
    with pytest.raises(DataError, match=str(path)):
        store.picture(first)
    path.unlink()
    with pytest.raises(DataError, match=str(path)):
        store.picture(first)
    assert not store.has(2, (4, 7))
    store.picture(second)

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from h2d.data.dataset import ShardDataset
from h2d.errors import ConfigError, DataError
from h2d.evaluation.selection import Selection, gesture_of, select
from h2d.experiment import EvaluationConfig

from .conftest import person, write_shards

GESTURES = ("fist", "fist", "fist", "palm", "fist", "fist", "fist", "palm", "like", "fist")
EVERY = EvaluationConfig(samples=-1, split="test", batch_size=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    people = [person(number, hands=()) for number in range(len(GESTURES))]
    people = [replace(one, meta=one.meta | {"gesture": name}) for one, name in zip(people, GESTURES, strict=True)]
    folder = write_shards(tmp_path_factory.mktemp("shards"), people)
    return ShardDataset(folder, "test", lambda raw, draw: dict(raw))


def test_batches_hold_all_samples_in_order() -> None:
    assert Selection((1, 2, 5, 7, 9), 2).batches == [(1, 2), (5, 7), (9,)]


def test_all_the_first_ones_and_a_quick_look(data: ShardDataset) -> None:
    assert select(data, EVERY).numbers == tuple(range(10))
    assert select(data, replace(EVERY, samples=3)).numbers == (0, 1, 2)
    assert select(data, EVERY, limit=2).numbers == (0, 1)
    assert select(data, EVERY, limit=20).numbers == tuple(range(10))
    assert select(data, replace(EVERY, samples=500), limit=4).numbers == (0, 1, 2, 3)


def test_gestures_keep_their_shares(data: ShardDataset) -> None:
    chosen = select(data, replace(EVERY, samples=5, choose="stratified")).numbers
    assert Counter(gesture_of(data, number) for number in chosen) == {"fist": 4, "palm": 1}  # 3.5, 1, 0.5; ties by name
    assert chosen == (0, 1, 2, 3, 4)
    assert select(data, replace(EVERY, choose="stratified"), limit=5).numbers == chosen
    assert select(data, replace(EVERY, samples=10, choose="stratified")).numbers == tuple(range(10))


def test_a_list_of_keys_is_taken_in_the_order_of_the_split(data: ShardDataset, tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("s/7\n\n s/2 \ns/9\n")
    settings = replace(EVERY, ids=str(path))
    assert select(data, settings).numbers == (2, 7, 9)
    assert select(data, replace(settings, samples=2)).numbers == (2, 7)
    with pytest.raises(DataError, match=r"ids\.txt has 3 samples, not 4"):
        select(data, replace(settings, samples=4))


def test_a_list_that_does_not_match_the_shards_is_named(data: ShardDataset, tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("s/7\nother/1\ns/10\n")
    settings = replace(EVERY, ids=str(path))
    with pytest.raises(DataError, match=r"2 samples that it lists are not in the split: line 2: other/1; line 3: s/10"):
        select(data, settings)
    path.write_text("s/7\n\ns/8\ns/7\n")
    with pytest.raises(DataError, match="line 4 repeats line 1: s/7"):
        select(data, settings)
    path.write_text("\n")
    with pytest.raises(DataError, match="it lists no sample"):
        select(data, settings)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        select(data, settings)
    path.unlink()
    with pytest.raises(ConfigError, match=f"evaluation.ids={path} cannot be read"):
        select(data, settings)


def test_more_samples_than_there_are_is_an_error(data: ShardDataset) -> None:
    with pytest.raises(DataError, match="the split 'test' has 10 samples, not 11") as caught:
        select(data, replace(EVERY, samples=11))
    assert "-1 for all" in str(caught.value.hint)

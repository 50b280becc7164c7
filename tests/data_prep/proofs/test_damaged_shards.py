"""Damaged shards: every flipped bit and every missing block is found, and no cut shard reaches a training."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from h2d.data.check import check
from h2d.data.dataset import ShardDataset
from h2d.data.order import Place
from h2d.data.schema import decode_sample
from h2d.data.shards import read_manifest
from h2d.errors import DataError

BLOCK = 512


def headers(data: bytes) -> list[int]:
    """Where the headers of a tar file's members begin."""
    starts, place = [], 0
    while any(data[place : place + BLOCK]):
        starts.append(place)
        size = int(data[place + 124 : place + 135], 8)
        place += BLOCK * (1 + -(-size // BLOCK))
    return starts


def flipped(data: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def seen(raw: Mapping[str, Any], draw: object) -> dict[str, object]:
    sample = decode_sample(raw)
    return {"key": sample.key, "sum": int(sample.image.sum()), "pose": float(sample.pose.sum())}


def read_all(dataset: ShardDataset) -> list[dict[str, Any]]:
    return [dataset[Place(number)] for number in range(len(dataset))]


def test_every_flipped_bit_is_found(shard: Path, long: bool, figures: Callable[[str], None]) -> None:
    data, rng = shard.read_bytes(), random.Random(0)
    assert check(shard.parent) == []
    starts = headers(data)
    assert len(starts) == 4 * 5
    count, found = 1000 if long else 100, 0
    for number in range(count):
        in_header = number % 2 == 0
        place = rng.choice(starts) + rng.randrange(BLOCK) if in_header else rng.randrange(len(data))
        shard.write_bytes(flipped(data, place, rng.randrange(8)))
        problems = check(shard.parent)
        found += len(problems) == 1 and shard.name in problems[0]
    assert found == count
    figures(f"{found} of {count} flipped bits found, half of them in headers")


def test_a_flipped_header_never_costs_a_training_samples(
    shard: Path, long: bool, figures: Callable[[str], None]
) -> None:
    """What webdataset reads to the flaw without a word: the training stops, or sees every sample as it was."""
    data, rng = shard.read_bytes(), random.Random(1)
    whole = read_all(ShardDataset(shard.parent, "train", seen))
    refused, count = 0, 500 if long else 60
    for _ in range(count):
        shard.write_bytes(flipped(data, rng.choice(headers(data)) + rng.randrange(BLOCK), rng.randrange(8)))
        try:
            assert read_all(ShardDataset(shard.parent, "train", seen)) == whole
        except DataError as error:
            assert shard.name in error.message  # noqa: PT017
            refused += 1
    assert refused > 0
    figures(f"{count} flipped header bits: {refused} refused, {count - refused} harmless, 0 samples lost")


def test_every_truncation_is_refused(shard: Path, figures: Callable[[str], None]) -> None:
    data = shard.read_bytes()
    cuts = range(0, len(data), BLOCK)
    for size in cuts:
        shard.write_bytes(data[:size])
        assert [shard.name in problem for problem in check(shard.parent)] == [True]
        with pytest.raises(DataError, match=f"has {size:,} bytes"):
            read_manifest(shard.parent)
        with pytest.raises(DataError, match=shard.name):
            ShardDataset(shard.parent, "train", seen)
    figures(f"{len(cuts)} truncations: all found by check, all refused before a training")


def test_a_shard_cut_while_it_is_read_stops_the_training(shard: Path) -> None:
    data = shard.read_bytes()
    dataset = ShardDataset(shard.parent, "train", seen)
    for size in range(0, headers(data)[-1] + BLOCK, BLOCK):
        shard.write_bytes(data[:size])
        with pytest.raises(DataError, match=shard.name):
            read_all(dataset)

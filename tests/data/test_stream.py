import json

import numpy as np
import pytest
from torch.utils.data import DataLoader

from h2d.data.schema import decode_sample, encode_sample
from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
from h2d.data.stream import ResumableLoader, ShardLoader, ShardSequence, ShardStream, read_spans, spans
from h2d.errors import DataError
from h2d.files import sha256_of
from h2d.images import encode_png


def key_and_draw(raw, draw):
    return {"key": decode_sample(raw).key, "draw": -1 if draw is None else int(draw.rng.integers(1 << 40))}


def make_shards(folder, counts, split="train"):
    """Shards of 16-pixel samples named s/0, s/1, ... in order."""
    folder.mkdir(exist_ok=True)
    image, hands = encode_png(np.zeros((16, 16, 3), np.uint8)), np.zeros((16, 16), np.uint8)
    shards, number = [], 0
    for index, count in enumerate(counts):
        samples = []
        for key in (f"s/{i}" for i in range(number, number + count)):
            meta = {"schema": 1, "key": key}
            samples.append((key, encode_sample(key, image, "png", hands, np.zeros((133, 3), np.float32), "", meta)))
        path = folder / f"{split}-{index:06d}.tar"
        write_tar(path, samples)
        shards.append(ShardInfo(path.name, split, count, path.stat().st_size, sha256_of(path)))
        number += count
    write_manifest(folder, Manifest(tuple(shards), {}, {}))
    return folder


def stream(folder, **options):
    options = {"seed": 3, "shuffle_buffer": 5, "batch_size": 2} | options
    return ShardStream(folder, "train", key_and_draw, **options)


def keys(batches):
    return [key for batch in batches for key in batch["key"]]


def first(loader, batches):
    iterator = iter(loader)
    return [next(iterator) for _ in range(batches)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp("shards"), [7, 5, 12])


def test_spans_cut_the_line_of_samples():
    a, b = ShardInfo("a", "train", 3, 0, ""), ShardInfo("b", "train", 4, 0, "")
    assert spans([a, b], 0, 7) == [(a, 0, 3), (b, 0, 4)]
    assert spans([a, b], 2, 5) == [(a, 2, 3), (b, 0, 2)]
    assert spans([a, b], 3, 3) == []


def test_the_order_follows_from_seed_and_epoch(shards):
    def order(**options):
        iterator = iter(stream(shards, **options))
        return [next(iterator) for _ in range(48)]

    once = order()
    assert once == order()
    names = [item["key"] for item in once]
    assert sorted(names[:24]) == sorted(names[24:])
    assert len(set(names[:24])) == 24
    assert names[:24] != names[24:]
    assert names != [item["key"] for item in order(seed=4)]
    draws = {(item["key"], item["draw"]) for item in once}
    assert len(draws) == 48, "the transform's numbers differ between epochs"


@pytest.mark.parametrize("counts", [[24], [7, 5, 12], [1, 1, 1]])
def test_ranks_and_workers_share_an_epoch_without_overlap(tmp_path, counts):
    folder, total = make_shards(tmp_path / "shards", counts), sum(counts)
    seen = []
    for rank in range(2):
        loader = DataLoader(stream(folder, rank=rank, world_size=2, batch_size=1), batch_size=1, num_workers=2)
        seen += keys(first(loader, 12 if total == 24 else 2))
    assert len(set(seen)) == (24 if total == 24 else 3)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [3, 11, 29])
def test_a_stopped_run_goes_on_where_it_was(shards, workers, stop):
    whole = first(ResumableLoader(stream(shards), lambda: 0, num_workers=workers), 34)
    rest = first(ResumableLoader(stream(shards), lambda: stop, num_workers=workers), 34 - stop)
    assert [batch["key"] for batch in whole[stop:]] == [batch["key"] for batch in rest]
    assert [batch["draw"].tolist() for batch in whole[stop:]] == [batch["draw"].tolist() for batch in rest]


def test_a_single_sample_fills_every_batch(tmp_path):
    folder = make_shards(tmp_path / "one", [1])
    assert keys(first(DataLoader(stream(folder), batch_size=4, num_workers=2), 2)) == ["s/0"] * 8


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_sequence_is_exact_and_independent_of_workers(shards, workers):
    whole = []
    for rank in range(2):
        data = ShardSequence(shards, "train", key_and_draw, batch_size=5, rank=rank, world_size=2)
        loader = DataLoader(data, batch_size=5, num_workers=workers)
        batches = list(loader)
        assert len(batches) == len(loader) == 3
        whole += keys(batches)
    assert whole == [f"s/{i}" for i in range(24)]


def test_a_sequence_splits_unevenly_rather_than_padding(shards):
    parts = [ShardSequence(shards, "train", key_and_draw, batch_size=1, rank=r, world_size=5) for r in range(5)]
    assert sum(len(part) for part in parts) == 24
    assert [item["key"] for part in parts for item in part] == [f"s/{i}" for i in range(24)]


def test_an_absent_split_is_an_error(shards):
    with pytest.raises(DataError, match="no samples in the split 'val'"):
        ShardSequence(shards, "val", key_and_draw, batch_size=1)


def cut(folder, size):
    """Cut the only shard off and let the manifest agree with its size, as after a copy that went wrong unnoticed."""
    path = folder / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:size])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0]["bytes"] = path.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_a_truncated_shard_is_named(tmp_path):
    folder = make_shards(tmp_path / "shards", [6])
    whole = (folder / "train-000000.tar").stat().st_size
    for size in range(whole // 5120 * 5120 - 5120, 512, -1024):
        path = cut(folder, size)
        with pytest.raises(DataError, match=path.name):
            list(ShardSequence(folder, "train", key_and_draw, batch_size=1))


def test_a_damaged_header_is_not_a_silent_loss(tmp_path):
    folder = make_shards(tmp_path / "shards", [6])
    path = folder / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[data.index(b"s/3.png")] ^= 1
    path.write_bytes(data)
    shard = ShardInfo(path.name, "train", 6, len(data), "")
    with pytest.raises(DataError, match=r"train-000000\.tar"):
        list(read_spans(folder, [(shard, 0, 6)]))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workers_error_is_one_line_that_names_the_shard(tmp_path, workers):
    folder = make_shards(tmp_path / "shards", [6])
    path = cut(folder, 10240)
    sequence = ShardSequence(folder, "train", key_and_draw, batch_size=1)
    with pytest.raises(DataError) as caught:
        list(ShardLoader(sequence, batch_size=1, num_workers=workers))
    assert str(path) in caught.value.message
    assert len(caught.value.message.splitlines()) == 1
    assert "h2d data check" in caught.value.hint

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import torch

from h2d.data.dataset import ShardDataset, ShardLoader
from h2d.data.index import ShardIndex
from h2d.data.order import Place, TrainingOrder, ValidationOrder
from h2d.data.schema import decode_sample, encode_sample
from h2d.data.shards import Manifest, ShardInfo, iter_shard, write_manifest, write_tar
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


def keys(batches):
    return [key for batch in batches for key in batch["key"]]


def loader(folder, workers=0, total=24, **options):
    order = TrainingOrder(total, **{"seed": 3, "batch_size": 2} | options)
    return ShardLoader(ShardDataset(folder, "train", key_and_draw, seed=3), batch_sampler=order, num_workers=workers)


def validation(folder, split="train", workers=0, total=24, **options):
    order = ValidationOrder(total, **{"batch_size": 5} | options)
    return ShardLoader(ShardDataset(folder, split, key_and_draw), batch_sampler=order, num_workers=workers)


def first(loader, batches):
    iterator = iter(loader)
    return [next(iterator) for _ in range(batches)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp("shards"), [7, 5, 12])


def test_the_index_finds_what_a_tar_reader_finds(shards):
    path = shards / "train-000001.tar"
    index = ShardIndex(path, 5)
    assert [index.read(number) for number in range(5)] == list(iter_shard(path))


def test_long_names_and_strangers_among_the_members(tmp_path):
    """Tar files that others wrote: names that need a header of their own, folders, files without an extension."""
    path, names = (
        tmp_path / "other.tar",
        ["a/0.txt", "a/0.png", "b" * 140 + ".txt", "README", "c/2.txt", "d\udcff/3.png"],
    )
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode(errors="replace")))
    index = ShardIndex(path, 4)
    found = [index.read(number) for number in range(4)]
    assert [sample["__key__"] for sample in found] == ["a/0", "b" * 140, "c/2", "d\udcff/3"]
    assert [sample["txt"] for sample in found[:3]] == [b"a/0.txt", b"b" * 140 + b".txt", b"c/2.txt"]
    assert found[0]["png"] == b"a/0.png"


def test_any_sample_can_be_read_at_any_time(shards):
    dataset = ShardDataset(shards, "train", key_and_draw)
    assert len(dataset) == 24
    assert [dataset[Place(number)]["key"] for number in (23, 0, 11, 12, 6, 7)] == [
        f"s/{i}" for i in (23, 0, 11, 12, 6, 7)
    ]


def test_the_order_follows_from_seed_and_epoch(shards):
    def order(**options):
        return [batch | {"key": batch["key"][0]} for batch in first(loader(shards, batch_size=1, **options), 48)]

    once = order()
    assert [item["key"] for item in once] == [item["key"] for item in order()]
    names = [item["key"] for item in once]
    assert sorted(names[:24]) == sorted(names[24:])
    assert len(set(names[:24])) == 24
    assert names[:24] != names[24:]
    assert names != [item["key"] for item in order(seed=4)]
    for number in ("draw", "noise_seed"):
        draws = {(item["key"], int(item[number])) for item in once}
        assert len(draws) == 48, "random numbers differ between epochs"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [3, 11, 29])
def test_a_stopped_run_goes_on_where_it_was(shards, workers, stop):
    whole = first(loader(shards, workers), 34)
    rest = first(loader(shards, workers, position=lambda: stop), 34 - stop)
    for before, after in zip(whole[stop:], rest, strict=True):
        assert before["key"] == after["key"]
        assert torch.equal(before["draw"], after["draw"])
        assert torch.equal(before["noise_seed"], after["noise_seed"])


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 2), (2, 2), (4, 1), (2, 4)])
def test_every_split_of_a_global_batch_has_its_samples_and_draws(shards, world_size, batch_size):
    """Eight samples a step: the same ones with the same random numbers, whoever takes them."""
    reference = first(loader(shards, batch_size=8), 7)
    accumulated = 8 // (world_size * batch_size)
    ranks = [
        first(loader(shards, batch_size=batch_size, rank=rank, world_size=world_size), 7 * accumulated)
        for rank in range(world_size)
    ]
    for step, whole in enumerate(reference):
        mine = [batch for rank in ranks for batch in rank[step * accumulated : (step + 1) * accumulated]]
        for name in ("draw", "noise_seed"):
            pairs = {(key, int(n)) for batch in mine for key, n in zip(batch["key"], batch[name], strict=True)}
            assert pairs == set(zip(whole["key"], whole[name].tolist(), strict=True))


def test_a_single_sample_fills_every_batch(tmp_path):
    folder = make_shards(tmp_path / "one", [1])
    assert keys(first(loader(folder, 2, total=1, batch_size=4), 2)) == ["s/0"] * 8


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_validation_is_exact_and_independent_of_ranks_and_workers(shards, workers):
    parts = [validation(shards, workers=workers, rank=rank, world_size=2) for rank in range(2)]
    batches = [list(part) for part in parts]
    assert [len(part) for part in batches] == [len(part) for part in parts] == [3, 3]
    assert keys(batches[0]) + keys(batches[1]) == [f"s/{i}" for i in range(24)]
    alone = {key: int(n) for b in validation(shards) for key, n in zip(b["key"], b["noise_seed"], strict=True)}
    shared = {key: int(n) for p in batches for b in p for key, n in zip(b["key"], b["noise_seed"], strict=True)}
    assert alone == shared
    assert all((batch["draw"] == -1).all() for part in batches for batch in part), "nothing random but the noise"


def test_validation_is_shared_unevenly_rather_than_padded(shards):
    parts = [list(validation(shards, batch_size=1, rank=rank, world_size=5)) for rank in range(5)]
    assert [len(part) for part in parts] == [4, 5, 5, 5, 5]
    assert [key for part in parts for key in keys(part)] == [f"s/{i}" for i in range(24)]


def test_an_absent_split_is_an_error(shards):
    with pytest.raises(DataError, match="no samples in the split 'val'"):
        ShardDataset(shards, "val", key_and_draw)


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
            list(validation(folder, total=6))


def test_a_damaged_header_is_not_a_silent_loss(tmp_path):
    folder = make_shards(tmp_path / "shards", [6])
    path = folder / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[data.index(b"s/3.png")] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train-000000\.tar: holds 3 samples, its manifest says 6"):
        ShardDataset(folder, "train", key_and_draw)


def test_a_shard_that_changes_during_training_is_named(tmp_path):
    folder = make_shards(tmp_path / "shards", [6])
    dataset = ShardDataset(folder, "train", key_and_draw)
    path = cut(folder, 10240)
    with pytest.raises(DataError, match="in the middle of a sample"):
        [dataset[Place(number)] for number in range(6)]
    path.unlink()
    with pytest.raises(DataError, match=r"train-000000\.tar: No such file"):
        dataset[Place(0)]


def test_a_shard_that_another_takes_the_place_of_is_named(tmp_path):
    folder = make_shards(tmp_path / "shards", [6])
    dataset = ShardDataset(folder, "train", key_and_draw)
    make_shards(tmp_path / "other", [3, 6])
    shutil.copy(tmp_path / "other" / "train-000001.tar", folder / "train-000000.tar")
    with pytest.raises(DataError, match=r"train-000000\.tar: holds another sample at byte 0 than before"):
        dataset[Place(0)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workers_error_is_one_line_that_names_the_shard(tmp_path, workers):
    folder = make_shards(tmp_path / "shards", [6])
    batches = validation(folder, workers=workers, total=6)
    path = cut(folder, 10240)
    with pytest.raises(DataError) as caught:
        list(batches)
    assert str(path) in caught.value.message
    assert len(caught.value.message.splitlines()) == 1
    assert "h2d data check" in caught.value.hint

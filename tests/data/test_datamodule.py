import pickle
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from h2d.data.datamodule import HAND_CAPTION, ShardDataModule
from h2d.data.schema import encode_sample
from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
from h2d.errors import DataError
from h2d.experiment import DataConfig, Experiment, TrainerConfig
from h2d.files import sha256_of
from h2d.images import encode_jpeg
from h2d.skeleton import RIGHT_HAND


def encoded(key, rng):
    image, hands, pose = rng.integers(0, 255, (48, 40, 3)), np.zeros((48, 40), np.uint8), np.zeros((133, 3), np.float32)
    hands[10:30, 10:30] = 1
    pose[RIGHT_HAND] = np.concatenate([rng.uniform(10, 30, (21, 2)), np.full((21, 1), 2)], 1)
    meta = {"schema": 1, "key": key}
    return encode_sample(key, encode_jpeg(image.astype(np.uint8)), "jpg", hands, pose, f"caption of {key}", meta)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """9 training samples in two shards, 5 validation samples."""
    folder, rng, infos = tmp_path_factory.mktemp("shards"), np.random.default_rng(0), []
    for name, count in (("train-0", 5), ("train-1", 4), ("val-0", 5)):
        path = folder / f"{name}.tar"
        write_tar(path, ((f"{name}/{i}", encoded(f"{name}/{i}", rng)) for i in range(count)))
        infos.append(ShardInfo(path.name, name[:-2], count, path.stat().st_size, sha256_of(path)))
    write_manifest(folder, Manifest(tuple(infos), {}, {}))
    return folder


def module(shards, task="hand", workers=0, **trainer):
    data = DataConfig(shards=str(shards), batch_size=2, num_workers=workers)
    settings = TrainerConfig(global_batch=2 * trainer.get("world_size", 1) * trainer.get("accumulate_grad_batches", 1))
    result = ShardDataModule(Experiment(task=task, image_size=32, data=data, trainer=settings), factor=4)
    trainer = {"global_rank": 0, "world_size": 1, "global_step": 0, "accumulate_grad_batches": 1} | trainer
    result.trainer = SimpleNamespace(**trainer)
    return result


def keys(batches):
    return [key for batch in batches for key in batch["key"]]


SHAPES = {
    "hand": {"image": (3, 32, 32), "heatmaps": (10, 8, 8), "hand_mask": (1, 32, 32)},
    "outpaint": {
        "image": (3, 32, 32),
        "hint": (4, 32, 32),
        "hand_mask": (1, 32, 32),
        "canvas": (3, 32, 32),
        "pose": (133, 3),
    },
    "autoencoder": {"image": (3, 32, 32)},
    "text_to_image": {"image": (3, 32, 32)},
}


@pytest.mark.parametrize("task", SHAPES)
def test_batches_of_every_task(shards, task):
    data = module(shards, task)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batch = next(iter(loader))
        batch = data.on_after_batch_transfer(batch, 0)
        assert batch.pop("noise_seed").shape == (2,)
        tensors = {name: tuple(value.shape) for name, value in batch.items() if isinstance(value, torch.Tensor)}
        assert tensors == {name: (2, *shape) for name, shape in SHAPES[task].items()}
        assert all(batch[name].dtype == torch.float32 for name in tensors)
        assert batch["image"].abs().max() <= 1
        assert len(batch["caption"]) == len(batch["key"]) == 2


@pytest.mark.parametrize(
    ("task", "most"),
    [
        ("hand", 4 * 32 * 32 + 10 * 8 * 8 * 4 + 5 * 4 + 8),
        ("outpaint", 7 * 32 * 32 + 133 * 3 * 4 + 8),
        ("text_to_image", 3 * 32 * 32 + 8),
    ],
)
def test_what_workers_hand_over_is_small(shards, task, most):
    """Pictures and masks travel as bytes: image, skeleton, mask; what the device can compute does not travel."""
    batch = next(iter(module(shards, task).train_dataloader()))
    sizes = {name: value.nbytes // 2 for name, value in batch.items() if isinstance(value, torch.Tensor)}
    assert sum(sizes.values()) <= most, sizes


def test_the_base_model_sees_people_and_hands(shards):
    captions = [
        caption
        for batch in islice(module(shards, "autoencoder").train_dataloader(), 18)
        for caption in batch["caption"]
    ]
    share = np.mean([caption.startswith(HAND_CAPTION) for caption in captions])
    assert 0.2 < share < 0.8
    assert all("caption of train-" in caption for caption in captions)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_on_from_the_global_step(shards, workers):
    whole = keys(islice(module(shards, workers=workers).train_dataloader(), 12))
    later = module(shards, workers=workers, global_step=3, accumulate_grad_batches=2)
    assert keys(islice(later.train_dataloader(), 6)) == whole[12:]


def test_ranks_share_both_splits(shards):
    modules = [module(shards, global_rank=rank, world_size=2) for rank in range(2)]
    val = [keys(item.val_dataloader()) for item in modules]
    assert val[0] + val[1] == [f"val-0/{i}" for i in range(5)]
    train = [set(keys(islice(item.train_dataloader(), 2))) for item in modules]
    assert not train[0] & train[1]


def test_without_a_validation_split_there_is_no_loader(shards, tmp_path):
    path = tmp_path / "train-0.tar"
    path.write_bytes((shards / path.name).read_bytes())
    info = ShardInfo(path.name, "train", 5, path.stat().st_size, sha256_of(path))
    write_manifest(tmp_path, Manifest((info,), {}, {}))
    assert module(tmp_path).val_dataloader() == []


def test_missing_shards_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        module(tmp_path / "nowhere")


def test_examples_can_travel_to_workers_of_any_start_method(shards):
    for task in SHAPES:
        item = module(shards, task)
        pickle.loads(pickle.dumps(item.example))
        pickle.loads(pickle.dumps(item.train_dataloader().dataset))


def test_the_seed_of_a_sample_becomes_its_generator(shards):
    item = module(shards)
    batch = next(iter(item.train_dataloader()))
    seeds = batch["noise_seed"].tolist()
    assert [one.initial_seed() for one in item.on_before_batch_transfer(batch, 0)["rng"]] == seeds


def test_validation_reads_the_first_samples_only(shards):
    item = module(shards)
    item.experiment = replace(item.experiment, trainer=replace(item.experiment.trainer, val_samples=3))
    assert keys(item.val_dataloader()) == [f"val-0/{i}" for i in range(3)]


def test_more_ranks_than_validation_samples(shards):
    with pytest.raises(DataError, match="5 validation samples are fewer than the 6 devices"):
        module(shards, world_size=6).val_dataloader()

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from h2d.checkpoints import AtomicCheckpointIO, read_checkpoint
from h2d.errors import CheckpointError
from h2d.plan import describe
from h2d.train import train

SETTINGS = ("trainer.max_steps=3", "optim.warmup_steps=1", "optim.ema_decay=0.5", "checkpoint.keep=-1")


@pytest.fixture(scope="module")
def ended(smoke: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps with all its checkpoints. Tests must not change it."""
    return train(smoke(tmp_path_factory.mktemp("ended"), "tiny_autoencoder", *SETTINGS))


@pytest.fixture
def stopped(ended: Path, smoke: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Experiment of a copy of it, which may go on."""
    shutil.copytree(ended, tmp_path / ended.name, symlinks=True)
    return lambda *settings: smoke(tmp_path, "tiny_autoencoder", *SETTINGS, *settings)


def checkpoint(tmp_path: Path, step: int) -> Path:
    return tmp_path / "tiny_autoencoder" / "checkpoints" / f"step-{step:07d}.ckpt"


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(
    stopped: Callable[..., Any], tmp_path: Path, capsys: Any
) -> None:
    newest = checkpoint(tmp_path, 3)
    whole, damaged = read_checkpoint(newest), bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    train(stopped(), resume="auto")
    output = capsys.readouterr()
    assert f"warning: {newest} is damaged" in output.err
    assert "step-0000002.ckpt at step 2" in output.out
    again = read_checkpoint(newest)
    for part in ("state_dict", "current_model_state"):
        for name, value in whole[part].items():
            assert torch.equal(value, again[part][name]), (part, name)


@pytest.mark.parametrize("part", ["state_dict", "current_model_state"])
def test_numbers_that_are_none_are_named_before_the_first_step(
    part: str, stopped: Callable[..., Any], tmp_path: Path
) -> None:
    newest = checkpoint(tmp_path, 3)
    content = read_checkpoint(newest)
    name = next(iter(content[part]))
    content[part][name].fill_(float("nan"))
    AtomicCheckpointIO().save_checkpoint(content, newest)
    with pytest.raises(CheckpointError, match=rf"step-0000003\.ckpt: {part}: {name} is not finite"):
        train(stopped("trainer.max_steps=4"), resume="auto")


@pytest.mark.parametrize(
    ("change", "words"),
    [("seed=1", "another seed"), ("optim.ema_decay=null", "another optim.ema_decay"),
     ("trainer.global_batch=2", "another trainer.global_batch")],
)  # fmt: skip
def test_another_run_in_the_folder(change: str, words: str, stopped: Callable[..., Any]) -> None:
    for start in (train, describe):
        with pytest.raises(CheckpointError, match=words):
            start(stopped("trainer.max_steps=4", change), "auto")


def test_another_task_in_the_folder(stopped: Callable[..., Any], smoke: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"another task \(autoencoder, here hand\)"):
        train(smoke(tmp_path, "hand", "run.name=tiny_autoencoder"), resume="auto")


def test_other_data(stopped: Callable[..., Any], shards: Path, tmp_path: Path) -> None:
    from h2d.data.shards import Manifest, read_manifest, write_manifest

    manifest = read_manifest(shards)
    (tmp_path / "fewer").mkdir()
    for shard in manifest.split("train"):
        (tmp_path / "fewer" / shard.name).write_bytes((shards / shard.name).read_bytes())
    write_manifest(tmp_path / "fewer", Manifest(manifest.split("train"), {"synthetic": 12}, {}))
    with pytest.raises(CheckpointError, match=r"other data \(18 synthetic; here 12 synthetic\)"):
        train(stopped("trainer.max_steps=4", f"data.shards={tmp_path / 'fewer'}"), resume="auto")


def test_a_changed_learning_rate_holds(smoke: Callable[..., Any], tmp_path: Path) -> None:
    """Lightning brings back the rate of the checkpoint."""
    settings = ("trainer.max_steps=2", "optim.warmup_steps=1")
    train(smoke(tmp_path, "hand", *settings))
    folder = train(smoke(tmp_path, "hand", "trainer.max_steps=3", "optim.lr=0.5", "optim.weight_decay=0.1"), "auto")
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (group,) = checkpoint["optimizer_states"][0]["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.1)
    assert checkpoint["lr_schedulers"][0]["base_lrs"] == [0.5]


def test_a_dry_run_of_a_complete_run_says_so(smoke: Callable[..., Any], ended: Path) -> None:
    experiment = smoke(ended.parent, "tiny_autoencoder", *SETTINGS)
    assert "is complete at step 3: there is nothing to do" in describe(experiment, "auto")

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from h2d.data.shards import Manifest, ShardInfo
from h2d.errors import CheckpointError, ConfigError, DataError, SetupError
from h2d.files import holding
from h2d.plan import describe, with_total_steps
from h2d.train import build, train


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def _scalars(folder: Path) -> dict[str, list[Any]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


def test_nothing_to_train_on(smoke: Callable[..., Any], tmp_path: Path) -> None:
    only_val = Manifest((ShardInfo("val-0.tar", "val", 3, 0, ""),), {}, {})
    with pytest.raises(DataError, match="has no samples in the split train"):
        with_total_steps(smoke(tmp_path, "hand"), only_val)


def test_two_trainings_in_one_folder(smoke: Callable[..., Any], tmp_path: Path) -> None:
    with holding(tmp_path / "hand", "a test"), pytest.raises(SetupError, match="another training is at work in"):
        train(smoke(tmp_path, "hand"))
    assert not (tmp_path / "hand" / "config.yaml").exists()


@pytest.mark.parametrize("name", ["hand", "outpaint", "tiny_autoencoder", "tiny_text_to_image"])
def test_every_task_trains_and_leaves_a_complete_run(name: str, smoke: Callable[..., Any], tmp_path: Path) -> None:
    folder = train(smoke(tmp_path, name))
    assert folder == tmp_path / name
    assert (folder / "config.yaml").is_file()
    start = json.loads((folder / "provenance.json").read_text())["starts"][0]
    assert start["versions"]["torch"] == torch.__version__.partition("+")[0]
    scalars = _scalars(folder)
    assert {"train/loss", "train/lr", "val/loss"} <= scalars.keys()
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["last.ckpt", "step-0000001.ckpt", "step-0000002.ckpt"]
    assert os.readlink(folder / "checkpoints" / "last.ckpt") == "step-0000002.ckpt"


def test_checkpoints_hold_trained_weights_and_plain_settings(stages: dict[str, Path]) -> None:
    for name, prefix in (("hand", "unet."), ("outpaint", "controlnet.")):
        checkpoint = torch.load(stages[name], weights_only=True)
        assert all(key.startswith(prefix) for key in checkpoint["state_dict"])
        assert checkpoint["hyper_parameters"]["task"] == name


def test_fresh_run_refuses_a_folder_with_checkpoints(smoke: Callable[..., Any], tmp_path: Path) -> None:
    experiment = smoke(tmp_path, "tiny_autoencoder")
    train(experiment)
    with pytest.raises(ConfigError, match="already holds a run") as caught:
        train(experiment)
    assert "--resume auto" in caught.value.hint
    assert "run.name" in caught.value.hint


def test_resume_goes_on_at_the_right_step_and_ends_bit_identical(
    smoke: Callable[..., Any], tmp_path: Path, capsys: Any
) -> None:
    settings = ["trainer.max_steps=3", "optim.warmup_steps=2", "optim.ema_decay=0.5", "checkpoint.keep=-1"]
    whole = train(smoke(tmp_path, "hand", "run.name=whole", *settings))
    second = whole / "checkpoints" / "step-0000002.ckpt"
    again = train(smoke(tmp_path, "hand", "run.name=again", *settings), resume=str(second))
    assert "at step 2" in capsys.readouterr().out
    for (name, one), two in zip(_weights(whole).items(), _weights(again).values(), strict=True):
        assert torch.equal(one, two), name
    assert [event.step for event in _scalars(again)["train/loss"]] == [2]


def test_resume_auto_starts_afresh_continues_and_notices_the_end(
    smoke: Callable[..., Any], tmp_path: Path, capsys: Any
) -> None:
    experiment = smoke(tmp_path, "tiny_autoencoder")
    train(experiment, resume="auto")
    assert "training into" in capsys.readouterr().out
    train(smoke(tmp_path, "tiny_autoencoder", "trainer.max_steps=4"), resume="auto")
    assert "step-0000002.ckpt at step 2" in capsys.readouterr().out
    kept = sorted(path.name for path in (tmp_path / "tiny_autoencoder" / "checkpoints").iterdir())
    assert kept == ["last.ckpt", "step-0000003.ckpt", "step-0000004.ckpt"]
    train(smoke(tmp_path, "tiny_autoencoder", "trainer.max_steps=4"), resume="auto")
    assert "is complete" in capsys.readouterr().out
    starts = json.loads((tmp_path / "tiny_autoencoder" / "provenance.json").read_text())["starts"]
    assert [bool(start["resumed_from"]) for start in starts] == [False, True]


def test_a_missing_partner_is_noticed_in_a_dry_run(smoke: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.ckpt does not exist"):
        describe(smoke(tmp_path, "outpaint", f"evaluation.partner={tmp_path}/none.ckpt"))


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="MPS, which has to be missing here, is there")
def test_a_missing_device_is_named(smoke: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"trainer\.accelerator=mps"):
        build(smoke(tmp_path, "hand", "trainer.accelerator=mps"))


@pytest.mark.parametrize("change", ["optim.ema_decay=0.9", "image_size=128", "model.conv_in_init=zero"])
def test_resume_refuses_another_model(
    change: str, smoke: Callable[..., Any], stages: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="trained with another"):
        train(smoke(tmp_path, "hand", change), resume=str(stages["hand"]))


def test_averaged_weights_go_into_the_checkpoint_beside_the_raw_ones(smoke: Callable[..., Any], tmp_path: Path) -> None:
    folder = train(smoke(tmp_path, "tiny_autoencoder", "optim.ema_decay=0.5"))
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    averaged, raw = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert averaged.keys() == raw.keys()
    assert any(not torch.equal(averaged[name], raw[name]) for name in averaged)


def test_accumulation_follows_from_the_global_batch(smoke: Callable[..., Any], tmp_path: Path) -> None:
    run = build(smoke(tmp_path, "tiny_autoencoder", "trainer.global_batch=6", "data.batch_size=2"))
    assert run.trainer.accumulate_grad_batches == 3


@pytest.mark.parametrize(
    ("settings", "steps"), [(("max_steps=100", "max_epochs=2"), 6), (("max_steps=5", "max_epochs=2"), 5)]
)
def test_earlier_of_steps_and_epochs_counts(
    settings: tuple[str, ...], steps: int, smoke: Callable[..., Any], shards: Path, tmp_path: Path
) -> None:
    from h2d.data.shards import read_manifest

    experiment = smoke(tmp_path, "hand", *(f"trainer.{item}" for item in settings))
    assert with_total_steps(experiment, read_manifest(shards)).trainer.max_steps == steps  # 12 samples, 4 a step


def test_dry_run_counts_without_training(smoke: Callable[..., Any], tmp_path: Path) -> None:
    text = describe(smoke(tmp_path, "outpaint"))
    assert "12 train, 3 val, 3 test" in text
    assert "4 = 1 devices x 1 nodes x 2 samples x 2 accumulated" in text
    assert not any(tmp_path.iterdir())


def test_shards_without_a_validation_split_train_all_the_same(
    smoke: Callable[..., Any], shards: Path, tmp_path: Path, capsys: Any
) -> None:
    from h2d.data.shards import Manifest, read_manifest, write_manifest

    folder = tmp_path / "train-only"
    shutil.copytree(shards, folder)
    manifest = read_manifest(folder)
    write_manifest(folder, Manifest(manifest.split("train"), manifest.sources, {}))
    run = train(smoke(tmp_path, "hand", f"data.shards={folder}"))
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert "no split 'val': nothing is evaluated" in capsys.readouterr().err


def test_evaluate_is_no_training(smoke: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trains nothing"):
        train(smoke(tmp_path, "evaluate"))
    assert not any(tmp_path.iterdir())

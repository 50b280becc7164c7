import json
import shutil

import pytest
import torch
from huggingface_hub import constants

from h2d import plan
from h2d.config import compose
from h2d.data.shards import Manifest, ShardInfo
from h2d.errors import CheckpointError, ConfigError, DataError
from h2d.networks import base, hub


@pytest.fixture
def describe(tmp_path, monkeypatch):
    """A dry run over a manifest of 64 training samples."""
    shards = (ShardInfo("train-000000.tar", "train", 64, 1, "0"), ShardInfo("val-000000.tar", "val", 8, 1, "0"))
    monkeypatch.setattr(plan, "read_manifests", lambda folder: Manifest(shards, {}, {}))

    def run(task: str, *settings: str, resume: str = "never") -> str:
        words = ["data.shards=shards", f"run.dir={tmp_path / 'runs'}", *settings]
        return plan.describe(compose(task, words).experiment, resume)

    return run


def line(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name} "))


def test_tells_run_data_steps_and_batch(describe, tmp_path):
    text = describe("hand", "preset=tiny", "trainer.max_steps=40", "data.batch_size=4")
    assert line(text, "run").endswith(f"{tmp_path}/runs/hand, starts afresh")
    assert "64 train, 8 val" in line(text, "data")
    assert "40 = 5.0 passes" in line(text, "steps")
    assert "8 = 1 devices x 1 nodes x 4 samples x 2 accumulated" in line(text, "batch")
    assert not (tmp_path / "runs").exists()


def test_neither_weights_nor_the_hub_are_touched(describe, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for module, names in ((base, ("load_part",)), (hub, ("get_hf_file_metadata", "hf_hub_download"))):
        for name in names:
            monkeypatch.setattr(module, name, lambda *arguments, **options: pytest.fail("it was asked"))
    text = describe("outpaint", "model.base=someone/some-model")
    assert "361,279,264 parameters trained, 1,066,235,307 frozen" in line(text, "networks")
    assert "someone/some-model, lllyasviel/control_v11p_sd15_openpose is not on this machine" in text
    assert "h2d doctor --fetch" in text
    assert "GB a device, estimated: weights" in line(text, "memory")
    compute = line(text, "compute")
    assert "2.33 TFLOP a sample + 2.25 that data.latents spares, 0.879 EFLOP in all" in compute
    assert "parameters trained" in describe("hand", "preset=tiny")


def test_checkpoints_have_to_fit_on_the_disk(describe, monkeypatch):
    settings = ("model.base=someone/some-model",)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**12, 0, 40 * 10**9))
    text = line(describe("hand", *settings), "disk")
    assert "3 x 10.32 GB for checkpoints, 40.0 GB free" in text  # 859,757,797 x 12 bytes
    assert "NOT ENOUGH" not in text
    assert "3 x 13.76 GB for checkpoints, 40.0 GB free: NOT ENOUGH" in describe(
        "hand", *settings, "optim.ema_decay=0.9"
    )
    everything = (
        "checkpoint.keep=-1",
        "trainer.max_steps=900",
        "trainer.max_epochs=-1",
        "checkpoint.every_n_steps=200",
    )
    assert "5 x 10.32 GB" in describe("hand", *settings, *everything)


def test_a_checkpoint_is_as_large_as_it_was_estimated(tmp_path):
    experiment = compose("hand", ["preset=tiny", "data.shards=none"]).experiment
    weight = torch.nn.Parameter(torch.zeros(100_000))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    torch.save({"state_dict": weight.data, "optimizer": optimizer.state_dict()}, tmp_path / "one.ckpt")
    assert (tmp_path / "one.ckpt").stat().st_size == pytest.approx(plan.checkpoint_bytes(experiment, 100_000), rel=0.01)


def test_problems_are_noticed_in_a_dry_run(describe, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"none\.ckpt does not exist"):
        describe("hand", "preset=tiny", "evaluation.partner=none.ckpt")
    shutil.copytree(base.TINY_BASE, tmp_path / "base")
    config = tmp_path / "base" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 9}))
    with pytest.raises(CheckpointError, match="inpainting"):
        describe("hand", "preset=tiny", f"model.base={tmp_path / 'base'}")
    with pytest.raises(ConfigError, match="trains nothing"):
        describe("evaluate", "trainer.max_steps=1")
    only_val = Manifest((ShardInfo("val-000000.tar", "val", 8, 1, "0"),), {}, {})
    monkeypatch.setattr(plan, "read_manifests", lambda folder: only_val)
    with pytest.raises(DataError, match="has no samples in the split train"):
        describe("hand", "preset=tiny")


def test_resuming_names_the_checkpoint(describe, tmp_path, monkeypatch):
    checkpoint = tmp_path / "step-0000010.ckpt"
    monkeypatch.setattr(plan, "choose_checkpoint", lambda folder, resume: checkpoint)
    monkeypatch.setattr(plan, "check_resumable", lambda path, experiment, manifest: 10)
    assert f"resumes {checkpoint}" in line(describe("hand", "preset=tiny", resume="auto"), "run")

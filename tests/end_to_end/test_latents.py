"""Cached latents: the same training examples as without them, kept apart from those of other settings."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from h2d.cli import main
from h2d.config import compose
from h2d.data.datamodule import ShardDataModule
from h2d.data.shards import read_manifest
from h2d.errors import ConfigError
from h2d.networks.base import load_frozen
from h2d.train import train

SMALL = ("preset=smoke", "image_size=64", "data.batch_size=4", "trainer.global_batch=4")


@pytest.fixture(scope="module")
def cache(shards: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of latents of a task, two variants of each sample."""
    made: dict[str, Path] = {}

    def make(task: str) -> Path:
        if task not in made:
            made[task] = tmp_path_factory.mktemp("latents") / task
            words = [task, f"data.shards={shards}", f"model.base={base}", *SMALL, "--variants", "2", "--device", "cpu"]
            assert main(["data", "latents", *words, "--out", str(made[task])]) == 0
        return made[task]

    return make


def epochs(task: str, shards: Path, base: Path, count: int, *overrides: str, step: int = 0) -> list[dict[str, Any]]:
    """Training batches from ``step`` on: three to an epoch."""
    words = [f"data.shards={shards}", f"model.base={base}", *SMALL, "data.num_workers=0", *overrides]
    module = ShardDataModule(compose(task, words).experiment, load_frozen(str(base)).factor)
    position = {"global_step": step, "accumulate_grad_batches": 1, "global_rank": 0, "world_size": 1}
    module.trainer = SimpleNamespace(**position)  # type: ignore[assignment]
    return [module.on_after_batch_transfer(batch, 0) for batch in islice(module.train_dataloader(), count)]


@pytest.mark.parametrize("task", ["hand", "outpaint", "tiny_text_to_image"])
def test_variant_k_is_what_epoch_k_computes(task: str, cache: Callable[[str], Path], shards: Path, base: Path) -> None:
    parts = load_frozen(str(base))
    cached = epochs(task, shards, base, 9, f"data.latents={cache(task)}")
    online = epochs(task, shards, base, 9)
    for number, (stored, made) in enumerate(zip(cached[:6], online[:6], strict=True)):
        assert stored["key"] == made["key"]
        assert stored["caption"] == made["caption"]
        if "hand_mask" in made:
            assert torch.equal(stored["hand_mask"], made["hand_mask"]), number
        for name in {"image", "canvas"} & made.keys():
            torch.testing.assert_close(stored[name], parts.moments(made[name]), rtol=2e-3, atol=2e-3)
        if task == "hand":
            torch.testing.assert_close(stored["heatmaps"], made["heatmaps"], rtol=0, atol=5e-4)
        if task == "outpaint":
            assert torch.equal(stored["hint"], made["hint"])
    again = {key: image for batch in cached[6:] for key, image in zip(batch["key"], batch["image"], strict=True)}
    first = {key: image for batch in cached[:3] for key, image in zip(batch["key"], batch["image"], strict=True)}
    assert all(torch.equal(again[key], first[key]) for key in first), "epoch 2 reads variant 0 again"
    if task == "hand":
        second = {key: image for batch in cached[3:6] for key, image in zip(batch["key"], batch["image"], strict=True)}
        assert not any(torch.equal(second[key], first[key]) for key in first), "other colours, other hands"


def test_the_set_has_the_keys_and_counts_of_its_source(cache: Callable[[str], Path], shards: Path) -> None:
    manifest = read_manifest(cache("hand"))
    assert manifest.counts == read_manifest(shards).counts
    assert manifest.settings["variants"] == 2
    assert sum(shard.bytes for shard in manifest.shards) < 1e6


def test_training_reads_latents_and_the_loss_is_that_of_images(
    cache: Callable[[str], Path], smoke: Callable[..., Any], tmp_path: Path
) -> None:
    losses = []
    for name, words in (("images", ()), ("latents", (f"data.latents={cache('hand')}",))):
        experiment = smoke(tmp_path, "hand", f"run.name={name}", "image_size=64", *words)
        losses.append(_logged_loss(train(experiment)))
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)


def _logged_loss(run: Path) -> float:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    return events.Scalars("train/loss")[0].value


def test_latents_of_other_settings_are_refused(
    cache: Callable[[str], Path], shards: Path, base: Path, smoke: Callable[..., Any], tmp_path: Path
) -> None:
    latents = f"data.latents={cache('hand')}"
    with pytest.raises(ConfigError, match=r"made with data\.crop_margin=1\.6, not 2\.0"):
        epochs("hand", shards, base, 1, latents, "data.crop_margin=2.0")
    with pytest.raises(ConfigError, match="made with seed=0, not 1"):
        epochs("hand", shards, base, 1, latents, "seed=1")
    with pytest.raises(ConfigError, match="made with task=hand, not outpaint"):
        epochs("outpaint", shards, base, 1, latents)
    with pytest.raises(ConfigError, match="made with the VAE"):
        train(smoke(tmp_path, "hand", "model.base=tiny", "image_size=64", latents))


def test_a_stopped_command_goes_on_and_machines_share_the_work(
    cache: Callable[[str], Path], shards: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["hand", f"data.shards={shards}", f"model.base={base}", *SMALL, "--variants", "2", "--device", "cpu"]
    command = ["data", "latents", *words, "--out", str(tmp_path / "shared")]
    assert main([*command, "--slice", "1/2"]) == 0
    assert "2 of 3 shards are still with other commands" in capsys.readouterr().out
    assert not (tmp_path / "shared" / "manifest.json").exists()
    before = (tmp_path / "shared" / "val-000001.tar").stat().st_mtime_ns
    assert main(command) == 0
    assert (tmp_path / "shared" / "val-000001.tar").stat().st_mtime_ns == before
    for path in cache("hand").glob("*.tar"):
        assert (tmp_path / "shared" / path.name).read_bytes() == path.read_bytes()
    assert main([*command[:-1], str(tmp_path / "shared"), "seed=3"]) == 2
    assert "was made with seed=0, not 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hand", "--slice", "2/2"], "--slice=2/2 is not a share"),
        (["hand", "--variants", "0"], "--variants has to be at least 1"),
        (["evaluate"], "latents are for the tasks hand, outpaint, text_to_image, not evaluate"),
    ],
)
def test_wrong_words(
    words: list[str], message: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "latents", *words, f"data.shards={shards}", "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

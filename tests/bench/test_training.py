"""``h2d bench train`` in a world of seconds; diffusers' script is one of the same form that counts its steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from h2d.bench.peer import Peer
from h2d.bench.training import CACHED, LOOP, OURS, PEER, TrainRequest, bench_training, loop_steps, trainer_steps
from h2d.errors import ConfigError, SetupError

from ..end_to_end.conftest import base, shards, smoke

__all__ = ["base", "shards", "smoke"]  # fixtures

SCRIPT = """\
import argparse, json, sys, time
from pathlib import Path
from tqdm.auto import tqdm

print("words", sys.argv[1:])
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
Path(words["--output_dir"] + ".json").write_text(json.dumps(words))
for _ in tqdm(range(3), desc="Weights"):
    pass
bar = tqdm(total=int(words["--max_train_steps"]), desc="Steps")
for _ in range(int(words["--max_train_steps"])):
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    bar.update(1)
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for diffusers' checkout; its imports are taken to be installed."""
    folder = tmp_path / "diffusers" / "examples" / "text_to_image"
    folder.mkdir(parents=True)
    (folder / "train_text_to_image.py").write_text(SCRIPT)
    monkeypatch.setattr("h2d.bench.peer.PACKAGES", ())
    return tmp_path / "diffusers"


def test_all_ways_in_one_table(smoke: Callable[..., Any], checkout: Path, tmp_path: Path) -> None:
    experiment = smoke(tmp_path, "hand")
    table = bench_training(TrainRequest(experiment, None, checkout, steps=2, rounds=1))
    assert [row.name for row in table.rows] == [OURS, LOOP, PEER]
    assert all(row.timing.count == 2 and row.timing.median > 0 for row in table.rows)
    peer = table.rows[2]
    assert 0.04 < peer.timing.median < 0.2
    assert peer.figures["ratio"] == 1
    assert "TFLOP a step, counted" in str(table)
    assert not (tmp_path / "hand").exists(), "a benchmark leaves no run"
    table.write(tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["rows"][0]["name"] == OURS


def test_the_loop_and_the_trainer_take_the_same_steps(smoke: Callable[..., Any], tmp_path: Path) -> None:
    experiment = smoke(tmp_path, "hand", "trainer.max_steps=5", "evaluation.split=none", "trainer.val_samples=1")
    assert len(trainer_steps(experiment)) == len(loop_steps(experiment)) == 2


def test_the_script_gets_our_images_and_settings(smoke: Callable[..., Any], checkout: Path, tmp_path: Path) -> None:
    experiment = smoke(tmp_path, "hand", "trainer.max_steps=5")
    peer = Peer(checkout, experiment, tmp_path / "peer")
    assert len(peer.steps(warm_up=3)) == 2
    words = json.loads((tmp_path / "peer" / "out.json").read_text())
    assert words["--train_batch_size"] == str(experiment.micro_batch)
    assert words["--gradient_accumulation_steps"] == str(experiment.accumulation)
    rows = (tmp_path / "peer" / "images" / "train" / "metadata.jsonl").read_text().splitlines()
    assert len(rows) == 12
    assert json.loads(rows[0])["text"] == "a person waves"


def test_what_cannot_be_compared(
    smoke: Callable[..., Any], checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = smoke(tmp_path, "hand")
    with pytest.raises(ConfigError, match=r"there is no train_controlnet\.py in"):
        Peer(checkout, smoke(tmp_path, "outpaint"), tmp_path / "a")
    with pytest.raises(ConfigError, match="no script for the task autoencoder"):
        Peer(checkout, smoke(tmp_path, "tiny_autoencoder"), tmp_path / "b")
    (checkout / "examples" / "text_to_image" / "train_text_to_image.py").write_text("raise ValueError('too old')")
    with pytest.raises(SetupError, match="failed: ValueError: too old"):
        Peer(checkout, experiment, tmp_path / "c").steps(1)
    monkeypatch.setattr("h2d.bench.peer.PACKAGES", ("no_such_package",))
    with pytest.raises(SetupError, match=r"train_text_to_image\.py needs no_such_package"):
        Peer(checkout, experiment, tmp_path / "d")


def test_cached_latents_are_a_way(smoke: Callable[..., Any], tmp_path: Path) -> None:
    from h2d.latent_cache import LatentsRequest, cache_latents

    experiment = smoke(tmp_path, "hand")
    cache_latents(LatentsRequest(experiment, tmp_path / "latents", 1, "0/1", "cpu"))
    table = bench_training(TrainRequest(experiment, str(tmp_path / "latents"), None, steps=1, rounds=1))
    assert [row.name for row in table.rows] == [OURS, LOOP, CACHED]

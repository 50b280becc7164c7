"""SIGKILL while a checkpoint is rewritten, with temporary files on another file system: a whole one is always there."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from h2d.checkpoints import AtomicCheckpointIO, read_checkpoint
from h2d.runs import checkpoint_folder, prepare_folder

MEMORY = Path("/dev/shm")
FLOATS = 25_000_000
NAME = "step-0000001.ckpt"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run's folder in memory, where temporary files go to the disk."""
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system to write to")
    if shutil.disk_usage(MEMORY).free < 12 * FLOATS:
        pytest.skip(f"{MEMORY} is too small")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        prepare_folder(Path(folder))
        yield Path(folder)


def content(number: int) -> dict[str, Any]:
    """A checkpoint of 100 MB, every number of which tells which one it is."""
    weights = torch.from_numpy(np.full(FLOATS, number, np.float32))  # torch's own threads do not outlive a fork
    return {"state_dict": {"w": weights}, "hyper_parameters": {"number": number}}


def is_whole(checkpoint: dict[str, Any]) -> bool:
    return bool((checkpoint["state_dict"]["w"].numpy() == checkpoint["hyper_parameters"]["number"]).all())


def rewrite(writer: TorchCheckpointIO, path: Path) -> None:
    for number in range(1, 1000):
        writer.save_checkpoint(content(number), path)


def kill_at(moment: float, writer: TorchCheckpointIO, path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=rewrite, args=(writer, path), daemon=True)
    process.start()
    time.sleep(moment)
    assert process.is_alive(), "the writer has to be at work"
    process.kill()
    process.join(timeout=30)
    process.close()


def moments(kills: int, path: Path, writer: TorchCheckpointIO) -> Iterator[float]:
    """Random ones within the first and the second rewriting; the checkpoint before the first is written here."""
    began, rng = time.monotonic(), random.Random(kills)
    writer.save_checkpoint(content(0), path)
    duration = time.monotonic() - began
    yield from (0.05 + 2 * duration * (kill + rng.random()) / kills for kill in range(kills))


def test_a_checkpoint_is_whole_after_every_kill(run: Path, long: bool, figures: Callable[[str], None]) -> None:
    path, kills = checkpoint_folder(run) / NAME, 25 if long else 5
    met, renewed = 0, 0
    for moment in moments(kills, path, writer := AtomicCheckpointIO()):
        kill_at(moment, writer, path)
        checkpoint = read_checkpoint(path)
        assert is_whole(checkpoint)
        renewed += checkpoint["hyper_parameters"]["number"] > 0
        met += len(os.listdir(path.parent)) - 1
        prepare_folder(run)
        assert os.listdir(path.parent) == [NAME]
    assert met, "no kill came while a file was written"
    figures(
        f"{kills} SIGKILLs: {kills} whole checkpoints ({renewed} of them new), {met} temporary files met and cleared"
    )


def test_what_lightning_leaves(run: Path, tmp_path: Path, long: bool, figures: Callable[[str], None]) -> None:
    """For comparison: nothing is demanded of it."""
    if not long:
        pytest.skip("the long form only (--proof)")
    path, bad = checkpoint_folder(run) / NAME, 0
    for moment in moments(25, path, writer := TorchCheckpointIO()):
        kill_at(moment, writer, path)
        try:
            bad += not is_whole(torch.load(path, weights_only=True))
        except Exception:
            bad += 1
            writer.save_checkpoint(content(0), path)
    left = [file for file in tmp_path.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in left) / 1e6
    figures(f"Lightning's own writer: {bad} of 25 damaged, {len(left)} temporary files ({size:,.0f} MB) left behind")

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from h2d.checkpoints import AtomicCheckpointIO, read_checkpoint
from h2d.errors import CheckpointError, SetupError

GOOD = {"state_dict": {"w": torch.arange(3.0)}, "hyper_parameters": {"task": "hand"}}


def test_round_trip_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["w"], GOOD["state_dict"]["w"])
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_failed_save_keeps_the_old_file_and_is_an_error(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)

    def fills_the_disk(checkpoint: Any, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")

    monkeypatch.setattr(torch, "save", fills_the_disk)
    with pytest.raises(SetupError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint(GOOD, path)
    assert read_checkpoint(path)["hyper_parameters"] == {"task": "hand"}
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_missing_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot write"):
        AtomicCheckpointIO().save_checkpoint(GOOD, tmp_path / "file" / "a.ckpt")


@pytest.mark.parametrize("length", [0, 1, 100, 500])
def test_truncated_file_is_named(length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"a\.ckpt cannot be read"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, torch.ones(2)])
def test_other_content_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint of"):
        read_checkpoint(tmp_path / "a.ckpt")

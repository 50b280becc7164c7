from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from h2d.checkpoints import AtomicCheckpointIO, Checkpoints, read_checkpoint
from h2d.config import compose, from_plain, to_plain
from h2d.errors import CheckpointError, SetupError

Seal = Callable[[Any, Path], Path]
GOOD = {"state_dict": {"w": torch.arange(3.0)}, "hyper_parameters": {"task": "hand"}}


def test_round_trip_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["w"], GOOD["state_dict"]["w"])
    assert torch.equal(read_checkpoint(path, mapped=True)["state_dict"]["w"], GOOD["state_dict"]["w"])
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_missing_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot write"):
        AtomicCheckpointIO().save_checkpoint(GOOD, tmp_path / "file" / "a.ckpt")


def test_a_disk_that_gives_back_other_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    before = path.read_bytes()

    def rot(temporary: Path) -> None:
        with open(temporary, "r+b") as file:
            file.seek(200)
            file.write(b"rot")

    monkeypatch.setattr("h2d.checkpoints.forget", rot)
    with pytest.raises(SetupError, match=r"a\.ckpt: other bytes came back"):
        AtomicCheckpointIO().save_checkpoint(GOOD, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.ckpt"]


@pytest.mark.parametrize(
    "value", [PurePosixPath("a"), np.float64(1), np.arange(2), OmegaConf.create({"a": 1}), L.Trainer, max]
)
def test_values_that_are_not_plain_are_refused_when_saving(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    with pytest.raises(CheckpointError, match="would not open again"):
        AtomicCheckpointIO().save_checkpoint(GOOD | {"hyper_parameters": {"value": value}}, path)
    assert read_checkpoint(path)["hyper_parameters"] == {"task": "hand"}
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_settings_reach_a_checkpoint_as_plain_values(tmp_path: Path) -> None:
    experiment = compose("hand", [f"data.shards={tmp_path}", f"run.dir={tmp_path}", "optim.lr=1e-5"]).experiment
    plain = to_plain(experiment)
    assert kinds(plain) <= {str, int, float, bool, type(None), dict, list}
    AtomicCheckpointIO().save_checkpoint(GOOD | {"hyper_parameters": plain}, tmp_path / "a.ckpt")
    assert from_plain(read_checkpoint(tmp_path / "a.ckpt")["hyper_parameters"]) == experiment


def kinds(value: Any) -> set[type]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {type(value)}.union(*(kinds(one) for one in inside))


@pytest.mark.parametrize("length", [0, 1, 100, 500])
def test_truncated_file_is_named(length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"a\.ckpt is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, torch.ones(2)])
@pytest.mark.parametrize("sealed", [False, True])
def test_other_content_is_refused(content: Any, sealed: bool, seal: Seal, tmp_path: Path) -> None:
    (seal if sealed else torch.save)(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint of"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("mapped", [False, True])
def test_code_in_a_sealed_file_never_runs(
    mapped: bool, seal: Seal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    path = seal(GOOD | {"more": Payload()}, tmp_path / "a.ckpt")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for read in (
        lambda: read_checkpoint(path, mapped),
        lambda: AtomicCheckpointIO().load_checkpoint(path, None, False),
    ):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read()
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists(), "the payload was armed"


class Line(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"task": "line"})
        self.layer = torch.nn.Linear(2, 1)
        self.after_step: Callable[[int], None] = lambda step: None

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.after_step(self.global_step)
        return self.layer(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


def fit(line: Line, folder: Path, steps: int = 6, keep: int = 2) -> None:
    L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Checkpoints(folder, 2, keep)],
        plugins=[AtomicCheckpointIO()],
    ).fit(line, torch.utils.data.DataLoader(torch.ones(100, 2)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_the_link_leads_to_a_whole_checkpoint_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, line, seen = tmp_path / "checkpoints" / "last.ckpt", Line(), []
    remove = AtomicCheckpointIO.remove_checkpoint

    def look(self: AtomicCheckpointIO, path: Any) -> None:
        seen.append((Path(path).name, os.readlink(link)))
        read_checkpoint(link)
        remove(self, path)

    monkeypatch.setattr(AtomicCheckpointIO, "remove_checkpoint", look)
    fit(line, tmp_path, steps=7, keep=1)
    assert seen == [(f"step-000000{old}.ckpt", f"step-000000{new}.ckpt") for old, new in ((2, 4), (4, 6), (6, 7))]
    assert names(tmp_path) == ["last.ckpt", "step-0000007.ckpt"]


def test_an_old_checkpoint_stays_until_the_new_one_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third save fails, which would be followed by the removal of the first."""
    line = Line()

    def break_the_disk(step: int) -> None:
        if step == 5:
            monkeypatch.setattr("h2d.checkpoints.forget", lambda path: path.write_bytes(b"rot"))

    line.after_step = break_the_disk
    with pytest.raises(SetupError, match="other bytes came back"):
        fit(line, tmp_path, keep=2)
    assert names(tmp_path) == ["last.ckpt", "step-0000002.ckpt", "step-0000004.ckpt"]
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4


def test_without_links_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def refuse(self: Path, target: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    fit(Line(), tmp_path)
    assert names(tmp_path) == ["step-0000004.ckpt", "step-0000006.ckpt"]
    assert "warning: cannot write" in capsys.readouterr().err

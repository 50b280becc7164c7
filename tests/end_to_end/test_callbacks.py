from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from h2d.errors import CheckpointError
from h2d.train import train


def _events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_stage_one_alone_reports_its_masks(smoke: Callable[..., Any], tmp_path: Path) -> None:
    folder = train(smoke(tmp_path, "hand", "evaluation.every_n_steps=1"))
    events = _events(folder)
    assert [event.step for event in events.Scalars("eval/mask_iou")] == [1, 2]
    assert [event.step for event in events.Images("eval/pictures")] == [1, 2]
    assert np.asarray(Image.open(folder / "samples" / "step-0000002.png")).ndim == 3


def test_stage_two_alone_shows_pictures(smoke: Callable[..., Any], tmp_path: Path) -> None:
    folder = train(smoke(tmp_path, "outpaint", "evaluation.every_n_steps=0"))
    events = _events(folder)
    assert [event.step for event in events.Images("eval/pictures")] == [2]
    assert not any(tag.startswith("eval/") for tag in events.Tags()["scalars"])


@pytest.mark.parametrize(("name", "partner"), [("hand", "outpaint"), ("outpaint", "hand")])
def test_with_a_partner_both_stages_are_evaluated(
    name: str, partner: str, smoke: Callable[..., Any], stages: dict[str, Path], tmp_path: Path
) -> None:
    folder = train(smoke(tmp_path, name, f"evaluation.partner={stages[partner]}", "evaluation.samples=1"))
    events = _events(folder)
    assert events.Scalars("eval/n")[-1].value == 1
    assert events.Scalars("eval/mask_iou")
    assert all(key.startswith(("unet.", "controlnet.")) for key in _weights(folder))


def test_partner_of_the_same_stage_is_refused(
    smoke: Callable[..., Any], stages: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no other stage"):
        train(smoke(tmp_path, "hand", f"evaluation.partner={stages['hand']}"))


def test_evaluating_leaves_training_as_it_was(smoke: Callable[..., Any], tmp_path: Path) -> None:
    often = train(smoke(tmp_path, "hand", "run.name=often", "evaluation.every_n_steps=1", "evaluation.samples=1"))
    seldom = train(smoke(tmp_path, "hand", "run.name=seldom", "evaluation.split=none"))
    for (name, one), two in zip(_weights(often).items(), _weights(seldom).values(), strict=True):
        assert torch.equal(one, two), name


def test_failures_are_counted_and_training_goes_on(
    smoke: Callable[..., Any], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    from h2d import callbacks

    works, calls = callbacks.evaluate_task, []

    def fails_later(*args: Any, **options: Any) -> Any:
        calls.append(options)
        if len(calls) == 1:
            return works(*args, **options)
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(callbacks, "evaluate_task", fails_later)
    folder = train(smoke(tmp_path, "hand", "evaluation.every_n_steps=1"))
    assert len(calls) == 3
    errors = capsys.readouterr().err
    assert "evaluation at step 2 failed (failure 2), training goes on: OutOfMemoryError" in errors
    assert (folder / "checkpoints" / "step-0000002.ckpt").is_file()


def test_what_is_broken_from_the_start_stops_at_once(
    smoke: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    from h2d import callbacks

    def broken(*args: Any, **options: Any) -> Any:
        raise KeyError("prompt")

    monkeypatch.setattr(callbacks, "evaluate_task", broken)
    with pytest.raises(KeyError):
        train(smoke(tmp_path, "hand"))
    assert not (tmp_path / "hand" / "checkpoints").exists()

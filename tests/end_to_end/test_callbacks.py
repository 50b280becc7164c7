import json
import operator
import os
import pkgutil
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from h2d.config import to_plain
from h2d.errors import CheckpointError
from h2d.runs import checkpoints_of
from h2d.sampling_callback import TwoStageEvaluation
from h2d.train import train

FAULTS = {
    "h2d.sampling_callback.measure_task": 0,
    "h2d.undisturbed.averaged_weights": 0,
    "h2d.pipelines.hand.HandPipeline.denoise": 0,
    "h2d.networks.frozen.FrozenParts.encode_text": 0,
    "h2d.networks.hand_unet.HandUNet.forward": 3,
    "h2d.networks.frozen.FrozenParts.decode": 0,
    "h2d.metrics.suite.Suite.add_masks": 1,
    "h2d.metrics.suite.Suite.compute": 0,
    "h2d.evaluation.measurements.labelled_grid": 1,
    "h2d.sampling_callback.add_picture": 0,
    "h2d.board.encode_jpeg": 0,
    "h2d.sampling_callback.write_atomic": 0,
}
"""Places where sampling and showing its outcome can fail, and how often each works before it does."""
ERRORS = (torch.cuda.OutOfMemoryError("no memory"), OSError(28, "No space left on device"), KeyError("prompt"))


def _events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def _fail(monkeypatch: Any, place: str, error: Exception) -> None:
    """Let a place fail, after it has used up random numbers."""
    owner, _, name = place.rpartition(".")
    works, left = operator.attrgetter(name)(pkgutil.resolve_name(owner)), [FAULTS[place]]

    def fails(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            return works(*arguments, **options)
        random.random()
        np.random.rand()
        torch.rand(1)
        raise error

    monkeypatch.setattr(place, fails)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_stage_one_alone_reports_its_masks(smoke: Callable[..., Any], tmp_path: Path) -> None:
    folder = train(smoke(tmp_path, "hand", "evaluation.every_n_steps=1"))
    events = _events(folder)
    assert [event.step for event in events.Scalars("eval/mask_iou")] == [0, 1]  # Lightning's count for steps 1 and 2
    assert [event.step for event in events.Images("eval/pictures")] == [0, 1]
    assert np.asarray(Image.open(folder / "samples" / "step-0000002.jpg")).ndim == 3


def test_stage_two_alone_shows_pictures(smoke: Callable[..., Any], tmp_path: Path) -> None:
    folder = train(smoke(tmp_path, "outpaint", "evaluation.every_n_steps=0"))
    events = _events(folder)
    assert [event.step for event in events.Images("eval/pictures")] == [1]
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


def test_failures_anywhere_leave_training_as_it_was(
    smoke: Callable[..., Any], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    class Faulty(TwoStageEvaluation):
        def _report(self, trainer: Any, task: Any) -> None:
            number = trainer.global_step - 1
            modes = [network.training for network in task.modules()]
            with pytest.MonkeyPatch.context() as patches:
                if number < len(FAULTS):
                    _fail(patches, list(FAULTS)[number], ERRORS[number % 3])
                super()._report(trainer, task)
            assert modes == [network.training for network in task.modules()]
            assert torch.is_grad_enabled()

    monkeypatch.setattr("h2d.callbacks.TwoStageEvaluation", Faulty)
    steps = len(FAULTS) + 1
    settings = [f"trainer.max_steps={steps}", "trainer.global_batch=2", "trainer.val_every_n_steps=100"]
    settings += ["checkpoint.every_n_steps=100", "optim.ema_decay=0.5", "evaluation.samples=1"]
    states, weights = [], []
    for name, choice in (("often", "evaluation.every_n_steps=1"), ("never", "evaluation.split=none")):
        weights.append(_weights(train(smoke(tmp_path, "hand", *settings, f"run.name={name}", choice))))
        states.append((random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()))
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name
    assert states[0] == states[1]
    events, errors = _events(tmp_path / "often"), capsys.readouterr().err
    assert [event.value for event in events.Scalars("eval/failures")] == list(range(1, steps))
    assert events.Scalars("eval/mask_iou")[-1].step == steps - 1
    assert "evaluation at step 1 failed, training goes on: OutOfMemoryError: no memory" in errors
    assert errors.count("training goes on") == len(FAULTS)


def test_what_is_broken_from_the_start_stops_at_once(
    smoke: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    _fail(monkeypatch, "h2d.sampling_callback.measure_task", KeyError("prompt"))
    with pytest.raises(KeyError):
        train(smoke(tmp_path, "hand"))
    assert checkpoints_of(tmp_path / "hand") == []


def test_empty_masks_are_counted_in_one_line(
    smoke: Callable[..., Any], stages: dict[str, Path], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    from h2d.pipelines.hand import HandPipeline

    makes = HandPipeline.__call__

    def sees_no_hand(*arguments: Any, **options: Any) -> Any:
        output = makes(*arguments, **options)
        output.masks.zero_()
        return output

    monkeypatch.setattr(HandPipeline, "__call__", sees_no_hand)
    train(smoke(tmp_path, "hand", f"evaluation.partner={stages['outpaint']}", "evaluation.every_n_steps=1"))
    errors = capsys.readouterr().err
    assert errors.count("4 of 4 hand masks are empty") == 2  # two people with two hands; at both steps
    assert "came out empty" not in errors


def test_the_board_shows_the_settings_and_what_made_the_run(smoke: Callable[..., Any], tmp_path: Path) -> None:
    settings = ["evaluation.split=none", "trainer.max_steps=1"]
    first = (train(smoke(tmp_path, "hand", *settings)) / "checkpoints" / "last.ckpt").resolve()
    train(smoke(tmp_path, "hand", "evaluation.split=none", "trainer.max_steps=2"), resume="auto")
    events = _events(tmp_path / "hand")
    texts = {name: events.Tensors(f"{name}/text_summary") for name in ("config", "provenance")}
    values = {name: [event.tensor_proto.string_val[0].decode() for event in each] for name, each in texts.items()}
    assert ["max_steps: 1" in values["config"][0], "max_steps: 2" in values["config"][-1]] == [True, True]
    assert f'"torch": "{torch.__version__.partition("+")[0]}"' in values["provenance"][0]
    assert str(first) in values["provenance"][-1]


RANKS = """
import json, os, sys
import torch
from h2d import sampling_callback
from h2d.config import from_plain
from h2d.train import train

works, rank, calls = sampling_callback.measure_task, int(os.environ.get("LOCAL_RANK", 0)), []

def measure(*arguments, **options):
    calls.append(1)
    if rank == 1 and len(calls) == int(sys.argv[2]):
        raise torch.cuda.OutOfMemoryError("no memory")
    return works(*arguments, **options)

sampling_callback.measure_task = measure
torch.set_num_threads(1)
train(from_plain(json.load(open(sys.argv[1]))))
"""


def _two_ranks(smoke: Callable[..., Any], tmp_path: Path, failing: int, *settings: str) -> Any:
    """A run of two processes, the second of which fails in the ``failing``-th sampling."""
    both = ["trainer.devices=2", "trainer.max_steps=2", "trainer.timeout_s=100", "evaluation.samples=3", *settings]
    (tmp_path / "experiment.json").write_text(json.dumps(to_plain(smoke(tmp_path, "hand", *both))))
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, "ranks.py", "experiment.json", str(failing)]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.usefixtures("only_long")
def test_a_rank_that_fails_does_not_leave_the_others_waiting(smoke: Callable[..., Any], tmp_path: Path) -> None:
    done = _two_ranks(smoke, tmp_path, 2, "run.name=failing", "evaluation.every_n_steps=1")
    assert done.returncode == 0, done.stderr
    assert "evaluation at step 1 failed on rank 1, training goes on: OutOfMemoryError" in done.stderr
    events = _events(tmp_path / "failing")
    assert [(event.step, event.value) for event in events.Scalars("eval/failures")] == [(0, 1)]
    assert [(event.step, event.value) for event in events.Scalars("eval/n")] == [(1, 3)]
    assert _two_ranks(smoke, tmp_path, 2, "run.name=without", "evaluation.split=none").returncode == 0
    for (name, one), two in zip(
        _weights(tmp_path / "failing").items(), _weights(tmp_path / "without").values(), strict=True
    ):
        assert torch.equal(one, two), name


@pytest.mark.usefixtures("only_long")
def test_a_rank_that_is_broken_from_the_start_ends_all(smoke: Callable[..., Any], tmp_path: Path) -> None:
    done = _two_ranks(smoke, tmp_path, 1)
    assert done.returncode != 0
    assert "OutOfMemoryError: no memory" in done.stderr
    assert checkpoints_of(tmp_path / "hand") == []

"""A training that is asked to stop, in one process; with a real Slurm and two ranks in ``tests/slurm``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from h2d import sampling_callback, stop_on_request
from h2d.stopping import StoppedError
from h2d.train import train

from ..checkpoint_states import state_differences

RECIPE = ("trainer.max_steps=3", "optim.ema_decay=0.5", "checkpoint.every_n_steps=2", "evaluation.every_n_steps=2")


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*.ckpt"))


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Not empty: a stop is requested."""
    pending: list[bool] = []
    for module in (stop_on_request, sampling_callback):
        monkeypatch.setattr(module, "stop_requested", lambda: bool(pending))

    def until_requested(items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            if pending:
                raise StoppedError("a stop was requested")
            yield item

    monkeypatch.setattr(sampling_callback, "until_requested", until_requested)
    return pending


def test_a_start_does_a_step_saves_it_and_goes_on_to_the_same_bits(
    requested: list[bool], smoke: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked before training has begun, and again at each start."""
    whole = train(smoke(tmp_path, "hand", *RECIPE, "run.name=whole"))
    requested.append(True)
    for step in (1, 2):
        with pytest.raises(StoppedError, match=f"stopped at step {step} of 3"):
            train(smoke(tmp_path, "hand", *RECIPE), "auto")
        assert steps(tmp_path / "hand")[-1] == f"step-{step:07d}.ckpt"
    folder = train(smoke(tmp_path, "hand", *RECIPE), "auto")
    assert "evaluation at step 3 left out: a stop was requested" in capsys.readouterr().err
    ends = [torch.load(one / "checkpoints" / "last.ckpt", weights_only=True) for one in (whole, folder)]
    assert state_differences(*ends) == []


def test_an_evaluation_is_left_for_a_stop(
    requested: list[bool],
    smoke: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked while it samples: the run stops at the next step, and counts no failure."""
    measure = sampling_callback.measure_task

    def asked(task: Any, partner: Any, samples: Any, **options: Any) -> Any:
        if not isinstance(samples, list):  # not the first look at one sample
            requested.append(True)
        return measure(task, partner, samples, **options)

    monkeypatch.setattr(sampling_callback, "measure_task", asked)
    recipe = [item.replace("max_steps=3", "max_steps=4") for item in RECIPE]
    with pytest.raises(StoppedError, match="stopped at step 3 of 4"):
        train(smoke(tmp_path, "hand", *recipe), "auto")
    said = capsys.readouterr().err
    assert "evaluation at step 2 left out: a stop was requested" in said
    assert "failed" not in said
    assert steps(tmp_path / "hand") == ["step-0000002.ckpt", "step-0000003.ckpt"]


def test_the_last_step_is_saved_before_the_final_evaluation(
    smoke: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job may end in it."""
    seen: list[str] = []
    monkeypatch.setattr(
        sampling_callback.TwoStageEvaluation, "on_train_end", lambda *_: seen.extend(steps(tmp_path / "hand"))
    )
    train(smoke(tmp_path, "hand", *RECIPE))
    assert seen == ["step-0000002.ckpt", "step-0000003.ckpt"]

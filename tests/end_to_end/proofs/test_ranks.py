"""Two ranks train as one: the same samples, the same weights, and they end together whatever happens to one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

TWO = ("trainer.devices=2", "data.num_workers=0", "trainer.timeout_s=90", "trainer.precision=32-true")
RECIPE = ("trainer.max_steps=6", "trainer.global_batch=4", "data.batch_size=2", "trainer.val_every_n_steps=3")
Run = Callable[..., Any]


def samples(*trainings: Any) -> dict[int, list[str]]:
    """What every optimiser step was trained on, over all ranks and starts."""
    steps: dict[int, list[str]] = {}
    for training in trainings:
        for note in training.ranks():
            for step, keys in note["samples"].items():
                steps.setdefault(int(step), []).extend(keys)
    return {step: sorted(keys) for step, keys in steps.items()}


def close(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Weights agree to what the order of a sum may change."""
    for name, tensor in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], tensor, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize("task", ["hand", "outpaint"])
def test_two_ranks_do_what_one_does(task: str, run: Run, long: bool, figures: Callable[[str], None]) -> None:
    if task == "outpaint" and not long:
        pytest.skip("the long form only (--proof)")
    one = run(task, "one", *RECIPE, "data.num_workers=0")
    two = run(task, "two", *RECIPE, *TWO)
    notes = two.ranks()
    assert notes[0]["weights"] == notes[1]["weights"]
    assert samples(two) == samples(one)
    assert sorted(notes[0]["validated"] + notes[1]["validated"]) == sorted(one.ranks()[0]["validated"])
    losses, expected = notes[0]["validation"], one.ranks()[0]["validation"]
    assert losses == pytest.approx(expected, rel=1e-4)
    close(one.checkpoint, two.checkpoint)
    worst = max(abs(losses[name] / expected[name] - 1) for name in expected)
    figures(f"{task}: losses of two ranks and of one differ by {worst:.1e}, weights of the ranks by nothing")


@pytest.mark.usefixtures("only_long")
def test_the_world_size_may_change_on_resume(run: Run) -> None:
    """2 -> 1 -> 2 ranks, other batches and workers: the same samples in every global batch."""
    start = [item for item in RECIPE if "max_steps" not in item]
    whole = run("hand", "whole", *RECIPE, "data.num_workers=0")
    seen = []
    for steps, more in ((2, TWO), (4, ("data.batch_size=1", "data.num_workers=2")), (6, TWO)):
        training = run("hand", "changing", *start, f"trainer.max_steps={steps}", *more)
        seen.append(samples(training))
        for path in training.folder.glob("rank-*.json"):
            path.unlink()
    assert seen[0] | seen[1] | seen[2] == samples(whole)
    assert [sorted(part) for part in seen] == [[0, 1], [2, 3], [4, 5]]
    close(whole.checkpoint, training.checkpoint)


def test_a_nan_of_one_rank_is_left_out_by_all(run: Run) -> None:
    training = run("hand", "nan", *RECIPE, *TWO, "optim.ema_decay=0.5", nan={"rank": 1, "steps": [2, 4]})
    notes = training.ranks()
    assert [note["skipped"] for note in notes] == [2, 2]
    assert [note["step"] for note in notes] == [6, 6]
    assert notes[0]["weights"] == notes[1]["weights"]
    checkpoint = training.checkpoint
    for part in ("state_dict", "current_model_state"):
        assert all(torch.isfinite(tensor).all() for tensor in checkpoint[part].values()), part
    assert training.output.count("left out, its gradient is not finite") == 2


@pytest.mark.usefixtures("only_long")
def test_too_many_nans_end_all_ranks(run: Run) -> None:
    steps = {"rank": 0, "steps": [1, 2, 3]}
    training = run("hand", "nans", *RECIPE, *TWO, "trainer.max_skipped=3", nan=steps, expect=1)
    assert "of 3 steps in a row were not finite" in training.output
    assert "Traceback" not in training.output


@pytest.mark.usefixtures("only_long")
@pytest.mark.parametrize("fault", ["die", "stall"])
def test_all_end_when_one_is_gone(fault: str, run: Run, same_state: Callable[..., list[str]]) -> None:
    """Within the timeout, with a checkpoint from which the run goes on to the bits of an undisturbed one."""
    whole = run("hand", "whole", *RECIPE, *TWO)
    begun = time.monotonic()
    settings = (*RECIPE, *TWO, "trainer.timeout_s=40")
    process = run("hand", "lost", *settings, expect=1, **{fault: {"rank": 1, "step": 3}})
    assert time.monotonic() - begun < 40 + 60  # the timeout, and starting two processes on a loaded machine
    if fault == "stall":  # of one that dies, Lightning's own watchman ends the others before they notice
        assert "error: rank 0: another rank ended, or did not answer for trainer.timeout_s=40" in process.output
        assert "Traceback" not in process.output
    again = run("hand", "lost", *RECIPE, *TWO)
    assert same_state(again.checkpoint, whole.checkpoint) == []


@pytest.mark.usefixtures("only_long")
@pytest.mark.parametrize("validation", [1, 2, 3])
def test_uneven_shares_end_together(validation: int, run: Run) -> None:
    """One, two or three validation samples for two ranks; with one, a rank would have none."""
    settings = (*RECIPE, *TWO, f"trainer.val_samples={validation}")
    if validation == 1:
        assert "1 validation samples are fewer than the 2 devices" in run("hand", "few", *settings, expect=2).output
        return
    notes = run("hand", "uneven", *settings).ranks()
    assert [note["step"] for note in notes] == [6, 6]
    validated = notes[0]["validated"] + notes[1]["validated"]
    assert sorted(validated) == sorted(2 * [f"val{number:03d}" for number in range(validation)])

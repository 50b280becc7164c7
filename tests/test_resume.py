from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from h2d.checkpoints import AtomicCheckpointIO
from h2d.config import compose, to_plain
from h2d.data.shards import Manifest, ShardInfo
from h2d.errors import CheckpointError
from h2d.experiment import leaves
from h2d.resume import MUST_MATCH, check_resumable, check_state, data_fingerprint

MANIFEST = Manifest(
    (ShardInfo("a-0.tar", "train", 9, 100, "0" * 64), ShardInfo("a-1.tar", "val", 3, 100, "1" * 64)), {"made": 12}, {}
)


def experiment(task: str = "hand", *settings: str) -> Any:
    chosen = {one.partition("=")[0]: one for one in ("data.shards=data", "trainer.global_batch=16", *settings)}
    return compose(task, chosen.values()).experiment


def saved(folder: Path, made: Any, **more: Any) -> Path:
    """A checkpoint of step 5 as a training on ``MANIFEST`` writes it, as far as its settings go."""
    made_by = {"data": dict(MANIFEST.sources), "shards": data_fingerprint(MANIFEST)}
    content = {
        "state_dict": {}, "hyper_parameters": to_plain(made), "global_step": 5, "loops": {}, "optimizer_states": [],
        "lr_schedulers": [], "made_by": made_by,
    }  # fmt: skip
    AtomicCheckpointIO().save_checkpoint(content | more, folder / "step-0000005.ckpt")
    return folder / "step-0000005.ckpt"


@pytest.mark.parametrize(
    "change",
    ["trainer.precision=bf16-mixed", "data.num_workers=3", "data.batch_size=2", "optim.lr=1e-4", "data.shards=moved",
     "trainer.devices=4", "run.name=other", "trainer.val_every_n_steps=7", "evaluation.samples=3"],
)  # fmt: skip
def test_what_may_change(change: str, tmp_path: Path) -> None:
    assert check_resumable(saved(tmp_path, experiment()), experiment("hand", change), MANIFEST) == 5


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ("seed=1", r"seed \(0, here 1\)"),
        ("trainer.global_batch=32", r"trainer.global_batch \(16, here 32\)"),
        ("image_size=256", r"image_size \(512, here 256\)"),
        ("model.conv_in_init=zero", r"model.conv_in_init \(random, here zero\)"),
        ("optim.ema_decay=0.9", r"optim.ema_decay \(None, here 0.9\)"),
        ("sampling.blend=clean", r"sampling.blend \(noised, here clean\)"),
    ],
)
def test_what_must_not_change_is_named_with_both_values(change: str, values: str, tmp_path: Path) -> None:
    path = saved(tmp_path, experiment())
    now = experiment("hand", change)
    with pytest.raises(CheckpointError, match=f"trained with another {values}$"):
        check_resumable(path, now, MANIFEST)


def test_the_other_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"another task \(hand, here outpaint\)"):
        check_resumable(saved(tmp_path, experiment()), experiment("outpaint"), MANIFEST)


def test_every_key_that_must_match_is_one() -> None:
    keys = [key for key, _ in leaves(experiment())]
    for wanted in MUST_MATCH:
        assert any(key == wanted or key.startswith(f"{wanted}.") for key in keys), wanted


def test_the_same_shards_elsewhere_are_the_same_data(tmp_path: Path) -> None:
    shards = tuple(replace(shard, name=f"/elsewhere/{shard.name}") for shard in MANIFEST.shards)
    moved = replace(MANIFEST, shards=shards, folder=Path("elsewhere"))
    assert check_resumable(saved(tmp_path, experiment()), experiment(), moved) == 5


@pytest.mark.parametrize("change", [{"count": 8}, {"sha256": "2" * 64}, {"split": "test"}])
def test_other_shards_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    other = replace(MANIFEST, shards=(replace(MANIFEST.shards[0], **change), MANIFEST.shards[1]))
    reordered = replace(MANIFEST, shards=MANIFEST.shards[::-1])
    for manifest in (other, reordered):
        with pytest.raises(CheckpointError, match="was trained on other data"):
            check_resumable(saved(tmp_path, experiment()), experiment(), manifest)


def test_a_plain_lightning_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": {}, "global_step": 5}, tmp_path / "plain.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint of `h2d train`"):
        check_resumable(tmp_path / "plain.ckpt", experiment(), MANIFEST)


def test_weights_without_a_training_are_refused(tmp_path: Path) -> None:
    content = {
        "state_dict": {},
        "hyper_parameters": to_plain(experiment()),
        "made_by": {"shards": data_fingerprint(MANIFEST)},
    }
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="global_step is missing"):
        check_resumable(tmp_path / "a.ckpt", experiment(), MANIFEST)


class Two(L.LightningModule):
    """Trained layer and frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.layer = nn.Linear(2, 3)


@pytest.fixture
def content() -> dict[str, Any]:
    """State of ``Two`` after a step, with an average of its weights."""
    two = Two()
    optimizer = torch.optim.AdamW(two.layer.parameters())
    two.layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    average = copy.deepcopy(two.state_dict())
    return {
        "state_dict": average, "current_model_state": two.state_dict(), "averaging_state": {},
        "optimizer_states": [optimizer.state_dict()],
    }  # fmt: skip


def without_average(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name in ("state_dict", "optimizer_states")}


def test_whole_states_pass(content: dict[str, Any]) -> None:
    check_state(content, Two(), True, "a.ckpt")
    check_state(without_average(content), Two(), False, "a.ckpt")


@pytest.mark.parametrize(("averaged", "words"), [(True, "current_model_state is missing"), (False, "are averages")])
def test_with_and_without_an_average(averaged: bool, words: str, content: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=rf"^a\.ckpt: .*{words}"):
        check_state(without_average(content) if averaged else content, Two(), averaged, "a.ckpt")


def missing(part: dict[str, Any]) -> None:
    del part["layer.weight"]


def extra(part: dict[str, Any]) -> None:
    part["more"] = torch.ones(1)


def shape(part: dict[str, Any]) -> None:
    part["layer.weight"] = torch.ones(2, 3)


def nan(part: dict[str, Any]) -> None:
    part["layer.weight"][1, 1] = float("nan")


def infinite(part: dict[str, Any]) -> None:
    part["layer.weight"][1, 1] = float("inf")


def number(part: dict[str, Any]) -> None:
    part["layer.weight"] = 1.0


WORDS = {
    missing: "lacks layer.weight", extra: "has more", shape: r"layer.weight has the shape \(2, 3\), not \(3, 2\)",
    nan: "layer.weight is not finite", infinite: "layer.weight is not finite", number: "layer.weight is no tensor",
}  # fmt: skip


@pytest.mark.parametrize("part", ["state_dict", "current_model_state"])
@pytest.mark.parametrize("damage", WORDS, ids=lambda damage: damage.__name__)
def test_damaged_weights(damage: Callable[[Any], None], part: str, content: dict[str, Any]) -> None:
    content = copy.deepcopy(content)
    damage(content[part])
    with pytest.raises(CheckpointError, match=rf"^a\.ckpt: {part}.* ?{WORDS[damage]}"):
        check_state(content, Two(), True, "a.ckpt")


def no_state(optimizers: list[dict[str, Any]]) -> None:
    optimizers.clear()


def another_count(optimizers: list[dict[str, Any]]) -> None:
    optimizers[0]["param_groups"][0]["params"] = [0]


def too_far(optimizers: list[dict[str, Any]]) -> None:
    optimizers[0]["state"][7] = optimizers[0]["state"][1]


def other_shape(optimizers: list[dict[str, Any]]) -> None:
    optimizers[0]["state"][0]["exp_avg"] = torch.ones(5)


def not_finite(optimizers: list[dict[str, Any]]) -> None:
    optimizers[0]["state"][1]["exp_avg_sq"][0] = float("nan")


OPTIMIZER = {
    no_state: "state of the optimizer does not fit", another_count: "has 1 parameters, not 2",
    too_far: "state of the optimizer does not fit", other_shape: "exp_avg of layer.weight has the shape",
    not_finite: "exp_avg_sq of layer.bias is not finite",
}  # fmt: skip


@pytest.mark.parametrize("damage", OPTIMIZER, ids=lambda damage: damage.__name__)
def test_damaged_optimizer(damage: Callable[[Any], None], content: dict[str, Any]) -> None:
    damage(content["optimizer_states"])
    with pytest.raises(CheckpointError, match=OPTIMIZER[damage]):
        check_state(content, Two(), True, "a.ckpt")

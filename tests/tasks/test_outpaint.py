from dataclasses import replace
from typing import Any

import pytest
import torch

from h2d.networks.controlnet import load_controlnet
from h2d.randomness import generators
from h2d.tasks.outpaint import Outpainter


@pytest.fixture
def task(experiment: Any, parts: Any) -> Outpainter:
    torch.manual_seed(0)
    controlnet = load_controlnet(None, parts.unet, factor=4)
    return Outpainter(experiment, controlnet, parts.unet, parts.frozen, parts.scheduler)


def test_loss_falls_on_one_batch(task: Outpainter, batch: dict[str, Any], descend: Any) -> None:
    losses = descend(task, batch, steps=25)
    assert losses[-1] < 0.98 * losses[0]


def test_only_the_controlnet_learns(task: Outpainter, batch: dict[str, Any]) -> None:
    task.losses(batch, generators(range(4))).loss.backward()
    assert all(name.startswith("controlnet.") for name, _ in task.named_parameters())
    assert any(parameter.grad is not None for parameter in task.controlnet.parameters())
    assert all(parameter.grad is None for parameter in task.unet.parameters())


def test_checkpoint_holds_the_controlnet_alone(task: Outpainter) -> None:
    assert task.state_dict().keys() == {f"controlnet.{name}" for name in task.controlnet.state_dict()}


def test_error_inside_the_hand_does_not_count(task: Outpainter, batch: dict[str, Any], monkeypatch: Any) -> None:
    predict = task.predict

    def loss(add: torch.Tensor) -> torch.Tensor:
        monkeypatch.setattr(task, "predict", lambda *args: predict(*args) + add)
        return task.losses(batch, generators(range(4))).loss

    inside = torch.zeros(1, 1, 8, 8)
    inside[..., :4] = 10
    assert loss(inside) == loss(torch.zeros(1))
    assert loss(inside.flip(-1)) > loss(torch.zeros(1)) + 1


@pytest.mark.parametrize("blend", ["noised", "clean"])
def test_network_sees_the_canvas_inside_the_hand(
    task: Outpainter, batch: dict[str, Any], blend: str, monkeypatch: Any
) -> None:
    seen: list[torch.Tensor] = []
    task.experiment = replace(task.experiment, sampling=replace(task.experiment.sampling, blend=blend))
    monkeypatch.setattr(task, "predict", lambda noisy, *rest: (seen.append(noisy), noisy)[1])
    for image in (batch["image"], -batch["image"]):
        task.losses({**batch, "image": image}, generators(range(4)))
    assert torch.equal(seen[0][..., :4], seen[1][..., :4])  # inside: the canvas, whatever the image is
    assert not torch.equal(seen[0][..., 4:], seen[1][..., 4:])


def test_without_mask_hint_the_controlnet_sees_the_skeleton_alone(
    experiment: Any, parts: Any, batch: dict[str, Any]
) -> None:
    controlnet = load_controlnet(None, parts.unet, mask_hint=False, factor=4)
    task = Outpainter(experiment, controlnet, parts.unet, parts.frozen, parts.scheduler)
    assert torch.isfinite(task.losses(batch, generators(range(4))).loss)


def test_a_plain_controlnet_sees_the_noisy_picture_and_learns_hands_too(
    task: Outpainter, batch: dict[str, Any], monkeypatch: Any
) -> None:
    seen: list[torch.Tensor] = []
    task.experiment = replace(task.experiment, loss=replace(task.experiment.loss, blend_hands=False))
    monkeypatch.setattr(task, "predict", lambda noisy, *rest: (seen.append(noisy), noisy)[1])
    losses = [
        task.losses({**batch, name: -batch[name]}, generators(range(4))).loss
        for name in ("hint", "canvas", "hand_mask")
    ]
    assert torch.equal(seen[0], seen[1])
    assert losses[0] == losses[1] == losses[2]
    task.losses({**batch, "image": -batch["image"]}, generators(range(4)))
    assert not torch.equal(seen[0][..., :4], seen[3][..., :4]), "the hand's half is the picture, not the canvas"

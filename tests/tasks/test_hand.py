from typing import Any

import pytest
import torch

from h2d.networks.hand_unet import HandUNet
from h2d.randomness import generators
from h2d.tasks.hand import HandGenerator, drop_masks


@pytest.fixture
def task(experiment: Any, parts: Any) -> HandGenerator:
    torch.manual_seed(0)
    return HandGenerator(experiment, HandUNet.from_unet(parts.unet, factor=4), parts.frozen, parts.scheduler)


def test_loss_falls_on_one_batch(task: HandGenerator, batch: dict[str, Any], descend: Any) -> None:
    losses = descend(task, batch)
    assert losses[-1] < 0.8 * losses[0]


def test_total_is_eq_8(task: HandGenerator, batch: dict[str, Any]) -> None:
    losses = task.losses(batch, generators(range(4)))
    torch.testing.assert_close(losses.loss, losses.parts["ldm"] + 0.5 * losses.parts["mask"])


def test_whole_unet_and_head_learn(task: HandGenerator, batch: dict[str, Any]) -> None:
    task.losses(batch, generators(range(4))).loss.backward()
    without = [name for name, parameter in task.named_parameters() if parameter.grad is None]
    assert not without


def test_mask_channel_is_zeroed_for_half_of_the_samples_and_the_heat_maps_never() -> None:
    masks = drop_masks(torch.ones(2000, 1, 4, 4), 0.5, generators(range(2000)))
    share = masks.amax(dim=(1, 2, 3)).mean().item()
    assert share == pytest.approx(0.5, abs=0.04)
    assert set(masks.flatten(1).mean(1).tolist()) == {0.0, 1.0}  # a whole mask or nothing of it


@pytest.mark.parametrize(("probability", "kept"), [(0.0, 1.0), (1.0, 0.0)])
def test_mask_dropout_extremes(probability: float, kept: float) -> None:
    assert drop_masks(torch.ones(8, 1, 2, 2), probability, generators(range(8))).mean() == kept


def test_condition_reaches_the_network(task: HandGenerator, batch: dict[str, Any]) -> None:
    other = {**batch, "heatmaps": batch["heatmaps"].flip(1)}
    assert (
        task.losses(batch, generators(range(4))).parts["ldm"] != task.losses(other, generators(range(4))).parts["ldm"]
    )


def test_min_snr_changes_the_loss_and_not_the_mask_term(set_loss: Any, task: HandGenerator, batch: Any) -> None:
    plain = task.losses(batch, generators(range(4)))
    task.experiment = set_loss(min_snr_gamma=0.01)
    weighted = task.losses(batch, generators(range(4)))
    assert weighted.parts["mask"] == plain.parts["mask"]
    assert weighted.parts["ldm"] != plain.parts["ldm"]

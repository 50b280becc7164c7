import copy
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from h2d.networks.base import make_sampler
from h2d.networks.hand_unet import HandUNet
from h2d.randomness import generators
from h2d.tasks.base import DivergedError, add_noise, drop_captions, lr_factor
from h2d.tasks.hand import HandGenerator


@pytest.fixture
def task(experiment: Any, parts: Any) -> HandGenerator:
    return HandGenerator(experiment, HandUNet.from_unet(parts.unet, factor=4), parts.frozen, parts.scheduler)


def test_held_networks_follow_moves_and_stay_out_of_the_checkpoint(task: HandGenerator) -> None:
    task.to(torch.float64)
    assert task.parts.vae.dtype == task.parts.text_encoder.dtype == torch.float64
    task.train()
    assert not task.parts.vae.training
    assert not any(parameter.requires_grad for parameter in task.parts.vae.parameters())
    assert all(name.startswith("unet.") for name in task.state_dict())


def test_copies_share_the_held_networks(task: HandGenerator) -> None:
    copied = copy.deepcopy(task)
    assert copied.parts.vae is task.parts.vae
    assert copied.unet is not task.unet


def test_hyperparameters_are_plain(task: HandGenerator) -> None:
    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(type(key) is str and plain(item) for key, item in value.items())
        return type(value) in (str, int, float, bool, type(None))

    assert plain(dict(task.hparams))


def test_noise_follows_eq_2(parts: Any) -> None:
    latents = torch.ones(3, 4, 8, 8)
    noisy, noise, timesteps, _ = add_noise(latents, parts.scheduler, generators(range(3)))
    alpha = parts.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    torch.testing.assert_close(noisy, alpha.sqrt() * latents + (1 - alpha).sqrt() * noise)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_what_is_predicted_leads_back_to_the_latents(kind: str, parts: Any) -> None:
    scheduler = DDPMScheduler.from_config(parts.scheduler.config, prediction_type=kind)
    latents = torch.randn(3, 4, 8, 8)
    noisy, noise, timesteps, target = add_noise(latents, scheduler, generators(range(3)))
    assert torch.equal(target, noise) == (kind == "epsilon")
    sampler = make_sampler(scheduler)
    sampler.set_timesteps(1000)
    for row, timestep in enumerate(timesteps):
        step = sampler.step(target[row], timestep, noisy[row])
        torch.testing.assert_close(step.pred_original_sample, latents[row], atol=1e-3, rtol=1e-3)


def test_time_steps_cover_the_schedule(parts: Any) -> None:
    timesteps = add_noise(torch.zeros(5000, 1, 1, 1), parts.scheduler, generators(range(5000))).timesteps
    assert timesteps.min() < 5
    assert timesteps.max() > 994
    assert timesteps.float().mean() == pytest.approx(499.5, abs=15)


def test_captions_are_dropped_at_the_rate_asked_for() -> None:
    assert drop_captions(["a"] * 5000, 0.1, generators(range(5000))).count("") / 5000 == pytest.approx(0.1, abs=0.02)
    assert drop_captions(["a", "b"], 0.0, generators(range(2))) == ["a", "b"]


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("constant", 0, 0.1),
        ("constant", 9, 1.0),
        ("constant", 500, 1.0),
        ("cosine", 10, 1.0),
        ("cosine", 55, 0.5),
        ("cosine", 100, 0.0),
    ],
)
def test_learning_rate(schedule: str, step: int, expected: float) -> None:
    assert lr_factor(10, schedule, 100)(step) == pytest.approx(expected, abs=1e-9)


def test_a_sample_draws_the_same_whatever_it_shares_a_batch_with(task: HandGenerator, batch: dict[str, Any]) -> None:
    whole = task.losses(batch, generators(range(4)))
    halves = [
        task.losses({name: value[part] for name, value in batch.items()}, generators(range(4)[part]))
        for part in (slice(0, 1), slice(1, 4))
    ]
    for name in ("timesteps", "errors"):
        torch.testing.assert_close(torch.cat([getattr(half, name) for half in halves]), getattr(whole, name))
    torch.testing.assert_close((halves[0].loss + 3 * halves[1].loss) / 4, whole.loss)


class Steps:
    """What a task asks of its trainer while gradients are clipped."""

    global_step, is_global_zero = 7, True


@pytest.fixture
def stepped(task: HandGenerator, monkeypatch: Any) -> Any:
    """Optimiser steps with gradients of the given values, after which the weights and the averages stay or move."""
    monkeypatch.setattr(task, "log", lambda *_: None)
    task._trainer = Steps()  # type: ignore[assignment]
    optimizer = task.configure_optimizers()["optimizer"]

    def run(value: float) -> bool:
        before = [parameter.clone() for parameter in task.parameters()]
        for parameter in task.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        next(task.parameters()).grad.view(-1)[0] = value
        task.configure_gradient_clipping(optimizer, 1.0)
        optimizer.step()
        moments = [item for state in optimizer.state.values() for item in state.values()]
        assert all(torch.isfinite(item).all() for item in [*task.parameters(), *moments])
        return all(torch.equal(one, two) for one, two in zip(before, task.parameters(), strict=True))

    return run


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_step_whose_gradient_is_not_finite_is_left_out(
    task: HandGenerator, stepped: Any, value: float, capsys: Any
) -> None:
    assert not stepped(0.1)
    assert stepped(value)
    assert "step 7 left out" in capsys.readouterr().err
    assert not stepped(0.1)
    assert task.skipped == 1


def test_too_many_such_steps_in_a_row_end_the_training(task: HandGenerator, stepped: Any) -> None:
    most = task.experiment.trainer.max_skipped
    for _ in range(most - 1):
        stepped(float("nan"))
    stepped(0.1)  # a good one between them starts the count again
    for _ in range(most - 1):
        stepped(float("nan"))
    with pytest.raises(DivergedError, match="in a row"):
        stepped(float("nan"))


def test_the_gradient_is_clipped_to_its_norm(task: HandGenerator, monkeypatch: Any) -> None:
    monkeypatch.setattr(task, "log", lambda *_: None)
    for clip, expected in ((1.0, 1.0), (None, None)):
        for parameter in task.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        whole = torch.cat([parameter.grad.flatten() for parameter in task.parameters()]).norm()
        task.configure_gradient_clipping(task.configure_optimizers()["optimizer"], clip)
        norm = torch.cat([parameter.grad.flatten() for parameter in task.parameters()]).norm()
        torch.testing.assert_close(norm, torch.tensor(expected) if expected else whole, rtol=1e-4, atol=0)

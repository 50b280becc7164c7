import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from h2d.networks.hand_unet import HandUNet
from h2d.tasks.base import DivergedError, add_noise, drop_captions, lr_factor, seeded
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


def test_seeded_depends_on_every_number() -> None:
    draws = {
        tuple(torch.rand(2, generator=seeded(*numbers)).tolist()) for numbers in [(0, 1), (1, 0), (0, 0), (0, 1, 0)]
    }
    assert len(draws) == 4
    assert torch.equal(torch.rand(5, generator=seeded(3, 4)), torch.rand(5, generator=seeded(3, 4)))


def test_noise_follows_eq_2(parts: Any) -> None:
    latents = torch.ones(3, 4, 8, 8)
    noisy, noise, timesteps = add_noise(latents, parts.scheduler, seeded(0))
    alpha = parts.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    torch.testing.assert_close(noisy, alpha.sqrt() * latents + (1 - alpha).sqrt() * noise)


def test_time_steps_cover_the_schedule(parts: Any) -> None:
    _, _, timesteps = add_noise(torch.zeros(5000, 1, 1, 1), parts.scheduler, seeded(0))
    assert timesteps.min() < 5
    assert timesteps.max() > 994
    assert timesteps.float().mean() == pytest.approx(499.5, abs=15)


def test_captions_are_dropped_at_the_rate_asked_for() -> None:
    assert drop_captions(["a"] * 5000, 0.1, seeded(0)).count("") / 5000 == pytest.approx(0.1, abs=0.02)
    assert drop_captions(["a", "b"], 0.0, seeded(0)) == ["a", "b"]


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


def test_a_loss_that_is_no_number_stops_and_names_step_and_samples(
    task: HandGenerator, batch: dict[str, Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(task, "losses", lambda *_: {"loss": torch.tensor(float("nan"))})
    monkeypatch.setattr(task, "_training_generator", lambda: seeded(0))
    with pytest.raises(DivergedError, match=r"nan at step 0 .*s0, s1"):
        task.training_step(batch, 0)


def test_each_accumulated_batch_draws_its_own_noise(task: HandGenerator) -> None:
    task._trainer = SimpleNamespace(global_step=7, global_rank=0)  # type: ignore[assignment]
    first, second = (torch.rand(3, generator=task._training_generator()) for _ in range(2))
    assert not torch.equal(first, second)
    task._last_step = -1
    assert torch.equal(first, torch.rand(3, generator=task._training_generator()))

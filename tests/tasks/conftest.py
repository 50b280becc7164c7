"""A Stable Diffusion of a few thousand random weights, and batches for it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ..small_networks import small_networks

SIZE = 32


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from h2d.networks.base import load_tokenizer, resolve_base

    return load_tokenizer(resolve_base("tiny"))


@pytest.fixture
def parts(tokenizer: Any) -> Any:
    """UNet, frozen parts and noise schedule; latents are 8 x 8 for images of 32 x 32."""
    from diffusers import DDPMScheduler

    from h2d.networks.frozen import FrozenParts

    unet, vae, text = small_networks(tokenizer)
    frozen = FrozenParts(vae, text, tokenizer)
    return SimpleNamespace(unet=unet, frozen=frozen, scheduler=DDPMScheduler(beta_schedule="scaled_linear"))


@pytest.fixture
def experiment() -> Any:
    """The hand experiment of the tiny preset; ``dataclasses.replace`` makes others of it."""
    from h2d.config import compose

    return compose("hand", ["preset=tiny", "data.shards=none", "optim.lr=0.002"]).experiment


@pytest.fixture
def set_loss(experiment: Any) -> Any:
    """An experiment with other loss settings."""
    return lambda **settings: replace(experiment, loss=replace(experiment.loss, **settings))


@pytest.fixture
def batch() -> dict[str, Any]:
    """Four samples with a hand in the left half."""
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(4, 3, SIZE, SIZE, generator=rng) * 2 - 1
    hand_mask = torch.zeros(4, 1, SIZE, SIZE)
    hand_mask[..., : SIZE // 2] = 1
    return {
        "image": image,
        "heatmaps": torch.rand(4, 10, SIZE // 4, SIZE // 4, generator=rng),
        "hand_mask": hand_mask,
        "hint": torch.cat([torch.rand(4, 3, SIZE, SIZE, generator=rng), hand_mask], dim=1),
        "canvas": torch.where(hand_mask > 0, image, -1.0),
        "caption": ["a hand", "a fist", "an open hand", "a thumb"],
        "key": [f"s{i}" for i in range(4)],
    }


@pytest.fixture
def descend() -> Any:
    """Plain optimiser steps on one batch with one draw of noise; the losses of all steps."""

    def run(task: Any, batch: dict[str, Any], steps: int = 20) -> list[float]:
        from h2d.randomness import generators

        optimizer = task.configure_optimizers()["optimizer"]
        values = []
        for _ in range(steps):
            loss = task.losses(batch, generators(range(4))).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        return values

    return run

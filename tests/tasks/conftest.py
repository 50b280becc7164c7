"""A Stable Diffusion of a few thousand random weights, and batches for it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

SIZE = 32


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from h2d.networks.tiny import tiny_tokenizer

    return tiny_tokenizer(["a person waves with an open hand"])


@pytest.fixture
def parts(tokenizer: Any) -> Any:
    """UNet, frozen parts and noise schedule; latents are 8 x 8 for images of 32 x 32."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from h2d.networks.frozen import FrozenParts

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
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

"""A random pipeline that is small enough for a second a call, and whose masks are not empty."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDPMScheduler, UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from h2d.networks.base import make_sampler
from h2d.networks.controlnet import load_controlnet
from h2d.networks.hand_unet import HandUNet
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.skeleton import BODY_NAMES, HAND_SLICES

SIZE, FACTOR = 64, 4


def byte_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer with one token for each byte: needs no vocabulary of anybody."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def lively(controlnet: ControlNetModel) -> ControlNetModel:
    """A fresh ControlNet answers zero to everything; this one does not."""
    generator = torch.Generator().manual_seed(2)
    for layer in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * 0.1
    embedding = controlnet.controlnet_cond_embedding
    for layer in (embedding.conv_in, embedding.conv_out):
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * 0.1
    return controlnet.eval()


@pytest.fixture(scope="session")
def components(tmp_path_factory) -> dict[str, Any]:
    """Everything that a TwoStagePipeline is made of; tests must not change it."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=SIZE // FACTOR,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()
    hand_unet = HandUNet.from_unet(unet, FACTOR).eval()
    for layer in hand_unet.mask_head:
        if hasattr(layer, "weight"):
            layer.weight.data *= 3
    hand_unet.mask_head[-2].bias.data.fill_(0.55)
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=8,
        layers_per_block=1,
        scaling_factor=1.0,
    ).eval()
    text = CLIPTextConfig(
        vocab_size=514,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        bos_token_id=512,
        eos_token_id=513,
    )
    return {
        "hand_unet": hand_unet,
        "unet": unet,
        "controlnet": lively(load_controlnet(None, unet, factor=FACTOR)),
        "vae": vae,
        "text_encoder": CLIPTextModel(text).eval(),
        "tokenizer": byte_tokenizer(tmp_path_factory.mktemp("tokenizer")),
        "scheduler": make_sampler(
            DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
        ),
    }


@pytest.fixture
def pipeline(components) -> TwoStagePipeline:
    """Both stages at 64 px."""
    scheduler = make_sampler(components["scheduler"])
    made = TwoStagePipeline(**{**components, "scheduler": scheduler}, image_size=SIZE, sigma_px=1.0)
    made.set_progress_bar_config(disable=True)
    return made


def make_pose(**hands: tuple[float, float, float]) -> np.ndarray:
    """A pose with hands given as centre x, y and width, and the arms that belong to them."""
    pose = np.zeros((133, 3), np.float32)
    for hand, (x, y, width) in hands.items():
        spread = np.random.default_rng(0).uniform(-0.5, 0.5, (21, 2))
        spread[:2] = (-0.5, -0.5), (0.5, 0.5)
        pose[HAND_SLICES[hand], :2] = (x, y) + width * spread
        pose[HAND_SLICES[hand], 2] = 2
        for part in ("elbow", "wrist"):
            pose[BODY_NAMES.index(f"{hand}_{part}")] = (x, y + 5, 2)
    return pose


@pytest.fixture
def pose() -> np.ndarray:
    """A pose with two separate hands."""
    return make_pose(right=(16, 20, 16), left=(46, 40, 20))


@pytest.fixture
def poses() -> np.ndarray:
    """Two hands that reach into each other's squares, no hand, interacting hands, one hand at the edge of the frame."""
    return np.stack(
        [
            make_pose(right=(16, 20, 16), left=(36, 24, 20)),
            make_pose(),
            make_pose(right=(30, 30, 16), left=(36, 34, 18)),
            make_pose(left=(60, 8, 14)),
        ]
    )


OUTPAINT_PARTS = ("unet", "controlnet", "vae", "text_encoder", "tokenizer", "scheduler")


def seeded(*seeds: int) -> list[torch.Generator]:
    """A generator for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="session")
def rgb_controlnet(components) -> ControlNetModel:
    """Sees the skeleton only, as diffusers' own pipelines give it."""
    channels = components["controlnet"].config.conditioning_embedding_out_channels
    return lively(ControlNetModel.from_unet(components["unet"], conditioning_embedding_out_channels=channels))


def always_predict(monkeypatch: pytest.MonkeyPatch, pipeline: Any, noise: torch.Tensor) -> None:
    """Put a network into stage II that predicts the same at every step, in no time."""
    monkeypatch.setattr(pipeline.controlnet, "forward", lambda *given, **options: ([], None))
    monkeypatch.setattr(pipeline.unet, "forward", lambda *given, **options: UNet2DConditionOutput(sample=noise))


def as_bytes(image: torch.Tensor) -> np.ndarray:
    """An image ``(3, H, W)`` in [-1, 1] as uint8 ``(H, W, 3)``."""
    return ((image / 2 + 0.5) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)


def fresh(seed: int = 0) -> torch.Generator:
    """One new generator."""
    return torch.Generator().manual_seed(seed)

"""Small random weights of every compared system, as files of its real format with its real names."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, T2IAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from h2d.baselines import load_system
from h2d.baselines.hand_depth import HandMaps
from h2d.networks.base import load_tokenizer, resolve_base
from h2d.networks.scratch import noise_schedule
from h2d.skeleton import BODY_NAMES, HAND_SLICES

from .original_names import adapter_name, latent_diffusion_name

SIZE = 64
WIDTHS = (32, 64, 64, 64)
LDM_UNET, LDM_CONTROL = "model.diffusion_model.", "control_model."


def unet(channels: int, **options: Any) -> UNet2DConditionModel:
    """Stable Diffusion's topology of four levels, narrow."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        block_out_channels=WIDTHS,
        cross_attention_dim=32,
        **{"attention_head_dim": 4, **options},
    ).eval()


def controlnet(**options: Any) -> ControlNetModel:
    """A ControlNet for it whose answers are not zero."""
    made = ControlNetModel(block_out_channels=WIDTHS, cross_attention_dim=32, attention_head_dim=4, **options).eval()
    for layer in (*made.controlnet_down_blocks, made.controlnet_mid_block, made.controlnet_cond_embedding.conv_out):
        nn.init.normal_(layer.weight, std=0.1)
    return made


def adapter() -> T2IAdapter:
    """An adapter for it."""
    return T2IAdapter(channels=list(WIDTHS), num_res_blocks=2, adapter_type="full_adapter").eval()


def in_original_names(network: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + latent_diffusion_name(name): weight for name, weight in network.state_dict().items()}


def write_base(folder: Path, main: UNet2DConditionModel) -> None:
    """A base as diffusers saves it."""
    words = load_tokenizer(resolve_base("tiny"))
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        layers_per_block=1,
        sample_size=SIZE,
        scaling_factor=0.18215,
    )
    nn.init.normal_(vae.decoder.conv_out.weight, std=0.1)
    special = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        **special,
    )
    parts = {"unet": main, "vae": vae, "text_encoder": CLIPTextModel(text)}
    for name, part in parts.items():
        part.eval().save_pretrained(folder / name)
    words.save_pretrained(folder / "tokenizer")
    noise_schedule().save_pretrained(folder / "scheduler")


@pytest.fixture(scope="session")
def networks() -> dict[str, nn.Module]:
    """What the files of ``places`` hold."""
    torch.manual_seed(0)
    return {
        "base": unet(4),
        "controlnet": controlnet(),
        "controlnet-v1.0": controlnet(),
        "t2i-adapter": adapter(),
        "sd21-base": unet(4, use_linear_projection=True, attention_head_dim=[2, 4, 4, 4]),
        "humansd": unet(8, use_linear_projection=True, attention_head_dim=[2, 4, 4, 4]),
        "inpainting": unet(9),
        "handrefiner": controlnet(),
    }


@pytest.fixture(scope="session")
def places(networks, tmp_path_factory) -> dict[str, str]:
    """Where each system's weights are."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("weights")
    write_base(folder / "base", networks["base"])
    write_base(folder / "sd21-base", networks["sd21-base"])
    networks["inpainting"].save_pretrained(folder / "inpainting" / "unet")
    for name in ("controlnet", "controlnet-v1.0"):
        networks[name].save_pretrained(folder / name)
    adapter_weights = {adapter_name(name): weight for name, weight in networks["t2i-adapter"].state_dict().items()}
    torch.save(adapter_weights, folder / "t2iadapter_openpose_sd14v1.pth")
    others = {"first_stage_model.decoder.conv_in.weight": torch.zeros(4), "betas": torch.zeros(1000)}
    humansd = in_original_names(networks["humansd"], LDM_UNET) | others
    torch.save({"state_dict": humansd, "global_step": 3, "epoch": 1}, folder / "humansd-v1.ckpt")
    combined = in_original_names(networks["inpainting"], LDM_UNET)
    combined |= in_original_names(networks["handrefiner"], LDM_CONTROL) | others
    torch.save({"state_dict": combined}, folder / "inpaint_depth_control.ckpt")
    pruned = in_original_names(networks["handrefiner"], LDM_CONTROL)
    save_file({name: weight.half().contiguous() for name, weight in pruned.items()}, folder / "pruned.safetensors")
    files = {
        "t2i-adapter": "t2iadapter_openpose_sd14v1.pth",
        "humansd": "humansd-v1.ckpt",
        "handrefiner": "inpaint_depth_control.ckpt",
    }
    return {name: str(folder / files.get(name, name)) for name in networks}


class OneHand:
    """Says that it finds a hand in those images of a batch; the same one each time."""

    label = "a square"

    def __init__(self, *found: bool) -> None:
        self.found = found

    def __call__(self, images: Any) -> list[HandMaps | None]:
        depth, mask = np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), bool)
        depth[24:40, 16:32], mask[16:48, 8:40] = 200, True
        return [HandMaps(depth, mask) if here else None for here in self.found[: len(images)]]


@pytest.fixture(scope="session")
def load(places) -> Callable[..., Any]:
    """``load(name, preset)`` gives a system, which is loaded once and must not be changed."""
    loaded = functools.cache(
        lambda name, preset: load_system(
            name, preset, SIZE, places=places, hand_depth=OneHand(True, True) if name == "handrefiner" else None
        )
    )
    return lambda name, preset="native": loaded(name, preset)


@pytest.fixture(scope="session")
def quick(load) -> Callable[..., Any]:
    """The same with three steps."""

    def of(system: Any) -> Any:
        system = copy.copy(system)
        system.settings = replace(system.settings, preset=replace(system.settings.preset, steps=3))
        if hasattr(system, "first"):
            system.first = of(system.first)
        return system

    return lambda name, preset="native": of(load(name, preset))


@pytest.fixture(scope="session")
def poses() -> np.ndarray:
    """Two people with arms and hands, ``(2, 133, 3)`` in pixels of an image of 64."""
    made = np.zeros((2, 133, 3), np.float32)
    for pose, shift in zip(made, (0, 9), strict=True):
        for name, (x, y) in {
            "nose": (30, 8),
            "right_shoulder": (20, 18),
            "left_shoulder": (42, 18),
            "right_elbow": (14, 28),
            "left_elbow": (48, 28),
            "right_wrist": (16, 38),
            "left_wrist": (46, 40),
        }.items():
            pose[BODY_NAMES.index(name)] = x, y + shift, 2
        for x, part in zip((16, 46), HAND_SLICES.values(), strict=True):
            fan = np.linspace(-6, 6, 21)
            pose[part] = np.stack([x + fan, 36 + shift + np.abs(fan), np.full(21, 2)], axis=1)
    return made


@pytest.fixture
def seeds() -> Callable[..., list[torch.Generator]]:
    """``seeds(3, 4)`` gives a generator for each number."""
    return lambda *numbers: [torch.Generator().manual_seed(number) for number in numbers]

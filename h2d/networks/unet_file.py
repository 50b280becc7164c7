"""A UNet in one .safetensors file: a whole checkpoint of the original layout, its UNet alone, or diffusers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors import SafetensorError, safe_open
from torch import Tensor

from h2d.errors import CheckpointError
from h2d.networks.loading import fill

ORIGINAL = "model.diffusion_model."
"""What the UNet's weights start with in a checkpoint of Stable Diffusion's own code."""
_FIRST = {"conv_in.weight": "diffusers", "input_blocks.0.0.weight": "original"}
HINT = "a UNet of Stable Diffusion 1.5's family is needed, or a checkpoint that holds one"


def load_unet_file(path: Path, config: dict[str, Any]) -> UNet2DConditionModel:
    """The UNet in a file as float32, every weight present, of the right shape and finite; the rest is not read.

    Args:
        path: a .safetensors file.
        config: of the base model's UNet, which says what shapes are right.

    Raises:
        CheckpointError: naming the file and the first weight that is wrong.
    """
    with torch.device("meta"):
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(config)
    weights = _read(path, unet.config)
    fill(unet, weights, str(path), HINT)
    return unet.eval()


def _read(path: Path, config: Any) -> dict[str, Tensor]:
    """Weights under diffusers' names."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            prefix, layout = _find(names, path)
            weights = {n.removeprefix(prefix): file.get_tensor(n).float() for n in names if n.startswith(prefix)}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", HINT) from error
    if layout == "diffusers":
        return weights
    converted = convert_ldm_unet_checkpoint({ORIGINAL + name: weight for name, weight in weights.items()}, config)
    return {name: weight for name, weight in converted.items() if weight is not None}


def _find(names: list[str], path: Path) -> tuple[str, str]:
    """What the names of the UNet's weights start with, and their layout."""
    for prefix in (ORIGINAL, "unet.", ""):
        for first, layout in _FIRST.items():
            if prefix + first in names:
                return prefix, layout
    raise CheckpointError(f"{path} holds no UNet: neither {ORIGINAL}* nor diffusers' names are in it", HINT)

"""Checkpoints of the systems' own code as networks of diffusers: every weight known, of the right shape and finite.

Only tensors are read. A checkpoint that holds other Python objects is refused, since reading those can run code.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint, convert_ldm_unet_checkpoint
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from h2d.errors import CheckpointError
from h2d.networks.hub import first_line
from h2d.networks.loading import fill
from h2d.networks.unet_file import ORIGINAL

CONTROL = "control_model."
"""What the ControlNet's weights start with in a checkpoint of ControlNet's own code."""
CONVERT = (
    "if you trust where it comes from, take its tensors out once:\n"
    "  import torch; from safetensors.torch import save_file\n"
    '  weights = torch.load("OLD.ckpt", map_location="cpu", weights_only=False)["state_dict"]\n'
    '  save_file({k: v.contiguous() for k, v in weights.items() if k.startswith("PREFIX")}, "NEW.safetensors")\n'
    f"PREFIX is {ORIGINAL} for HumanSD and {CONTROL} for HandRefiner"
)
_HINT = "the file is damaged or belongs to another system: fetch it again"
_SHARED = (
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "attention_head_dim",
    "norm_num_groups",
    "down_block_types",
    "use_linear_projection",
)

Network = TypeVar("Network", bound=nn.Module)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a file of ``torch.save``, by name; a ``state_dict`` in it is opened.

    Raises:
        CheckpointError: it cannot be read, or holds objects that reading alone could run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than tensors, or is damaged", CONVERT) from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {first_line(error)}", _HINT) from error
    weights = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {name: weight for name, weight in weights.items() if isinstance(weight, Tensor)}


def load_original_unet(path: Path, config: Mapping[str, Any]) -> UNet2DConditionModel:
    """The UNet in a checkpoint of latent diffusion's layout, float32.

    Args:
        path: see :func:`read_tensors`.
        config: in diffusers' words; it says what shapes are right.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    weights = _part(read_tensors(path), ORIGINAL, path)
    named = {ORIGINAL + name: weight for name, weight in weights.items()}
    return build(UNet2DConditionModel, config, lambda its: convert_ldm_unet_checkpoint(named, its), str(path))


def load_original_controlnet(path: Path, unet: Mapping[str, Any]) -> ControlNetModel:
    """The ControlNet in a checkpoint of ControlNet's own layout, alone or beside a whole model, float32.

    Args:
        path: see :func:`read_tensors`.
        unet: configuration of the UNet that it steers; the ControlNet sees the four latent channels only.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    weights = _part(read_tensors(path), CONTROL, path)
    config = {key: unet[key] for key in _SHARED if key in unet} | {"in_channels": 4}
    return build(ControlNetModel, config, lambda its: convert_controlnet_checkpoint(weights, its), str(path))


def build(
    kind: type[Network], config: Mapping[str, Any], convert: Callable[[Any], Mapping[str, Any]], where: str
) -> Network:
    """A network with given weights as float32, frozen and in eval mode.

    Args:
        kind: its class in diffusers.
        config: of the network.
        convert: from the network's full configuration to its weights under diffusers' names.
        where: name of the source in error messages.

    Raises:
        CheckpointError: weights are missing, unknown, of another shape or not finite.
    """
    with torch.device("meta"):
        network: Any = kind.from_config(dict(config))  # type: ignore[attr-defined]
    weights = {name: weight for name, weight in convert(network.config).items() if weight is not None}
    fill(network, {name: weight.to(torch.float32, copy=True) for name, weight in weights.items()}, where, _HINT)
    return network.requires_grad_(False).eval()


def _part(weights: dict[str, Tensor], prefix: str, path: Path) -> dict[str, Tensor]:
    """The weights of one network by their names in it; a file may hold that network alone, without prefix."""
    if "input_blocks.0.0.weight" in weights:
        return weights
    part = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    if not part:
        raise CheckpointError(f"{path} holds no weight whose name starts with {prefix}", _HINT)
    return part

"""T2I-Adapter for OpenPose on Stable Diffusion 1.x.

Its authors show it the body alone. The paper's figures for hands (0.11 at 0.06 for the body) are hard to reach without
having seen any, so "t2i-adapter" draws them, in the same v1.0 manner, and "t2i-adapter-body" does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionAdapterPipeline, T2IAdapter
from torch import Tensor

from h2d.baselines.checkpoints import build, read_tensors
from h2d.baselines.places import BINARY, locate, record
from h2d.baselines.prompted import PromptedSystem
from h2d.baselines.settings import Control, Settings
from h2d.baselines.skeletons import draw_openpose_v10
from h2d.baselines.stable_diffusion import NO_CHECKER, factor_of, load_base
from h2d.errors import CheckpointError
from h2d.networks.hub import fetch_file, find_file, read_config
from h2d.networks.outline import WEIGHT_FILES

_STRENGTH = "adapter_conditioning_scale"
CONTROLS = {
    "t2i-adapter": Control("OpenPose v1.0: body and hands", partial(draw_openpose_v10, hands=True), _STRENGTH),
    "t2i-adapter-body": Control("OpenPose v1.0: body", partial(draw_openpose_v10, hands=False), _STRENGTH),
}
RESNETS = 2
"""Residual blocks of each of the adapter's scales; the original numbers them through."""


def load_t2i_adapter(settings: Settings) -> PromptedSystem:
    """T2I-Adapter over Stable Diffusion, with or without hands as the name says.

    Raises:
        SetupError: a part is missing.
        CheckpointError: weights are wrong, or the adapter was made for another base.
    """
    components, weights = load_base(settings.places)
    source = locate("t2i-adapter", settings.places)
    adapter = load_adapter(source)
    pipeline = StableDiffusionAdapterPipeline(**components, adapter=adapter, **NO_CHECKER)
    _check_fit(adapter, components["unet"], factor_of(components["vae"]), source)
    weights["adapter"] = next(iter(record(source).values()))
    return PromptedSystem(settings, pipeline, weights, CONTROLS[settings.name])


def load_adapter(source: str) -> T2IAdapter:
    """The adapter, float32 and strictly, from the original .pth file, a diffusers folder or a hub id.

    Raises:
        SetupError: it cannot be fetched.
        CheckpointError: weights are missing, unknown, of another shape or not finite.
    """
    if Path(source).is_file():
        weights = diffusers_names(read_tensors(Path(source)))
        return build(T2IAdapter, _config_of(weights, source), lambda _: weights, source)
    config = read_config(fetch_file(source, "config.json"))
    names = (*WEIGHT_FILES[:2], BINARY)
    file = next((found for name in names if (found := find_file(source, name))), None)
    weights = read_tensors(file or fetch_file(source, names[0]))
    return build(T2IAdapter, config, lambda _: weights, source)


def diffusers_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the original file under diffusers' names; those that already have them stay.

    ``body.5.block1.weight`` is ``adapter.body.2.resnets.1.block1.weight``; the convolution before a scale's first
    block, ``body.4.in_conv``, belongs to the scale.
    """
    return {_diffusers_name(name): weight for name, weight in weights.items()}


def _diffusers_name(name: str) -> str:
    found = re.fullmatch(r"body\.(\d+)\.(in_conv|block1|block2)\.(weight|bias)", name)
    if found is None:
        return name if name.startswith("adapter.") else f"adapter.{name}"
    number, layer = int(found[1]), f"{found[2]}.{found[3]}"
    scale, block = divmod(number, RESNETS)
    place = "" if found[2] == "in_conv" else f"resnets.{block}."
    return f"adapter.body.{scale}.{place}{layer}"


def _config_of(weights: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """The adapter's sizes, read off its weights."""
    first = [f"adapter.body.{scale}.resnets.0.block1.weight" for scale in range(len(weights))]
    widths = [weights[name].shape[0] for name in first if name in weights]
    if "adapter.conv_in.weight" not in weights or not widths:
        raise CheckpointError(f"{source} holds no T2I-Adapter", "t2iadapter_openpose_sd14v1.pth is needed")
    factor = round((weights["adapter.conv_in.weight"].shape[1] / 3) ** 0.5)
    return {"channels": widths, "downscale_factor": factor, "num_res_blocks": RESNETS, "adapter_type": "full_adapter"}


def _check_fit(adapter: T2IAdapter, unet: Any, factor: int, source: str) -> None:
    found = tuple(adapter.config.channels), adapter.config.downscale_factor, adapter.config.in_channels
    wanted = tuple(unet.config.block_out_channels), factor, 3
    if found != wanted:
        raise CheckpointError(
            f"the adapter of {source} does not fit: widths, image pixels per latent cell and channels of the picture "
            f"are {found}, needed {wanted}",
            "the openpose adapter of Stable Diffusion 1.x is needed",
        )

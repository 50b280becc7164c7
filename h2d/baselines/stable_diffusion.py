"""Stable Diffusion v1.5: the text only, no pose. Its safety checker is off, since black images would be measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import StableDiffusionPipeline

from h2d.baselines.places import locate, record
from h2d.baselines.prompted import PromptedSystem
from h2d.baselines.settings import Settings
from h2d.networks.base import load_frozen, load_scheduler, load_unet, make_sampler, resolve_base

NO_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def load_stable_diffusion(settings: Settings) -> PromptedSystem:
    """Stable Diffusion from the base of ``settings.places``.

    Raises:
        SetupError: a part is missing.
        CheckpointError: weights are missing or not finite, or the base is of another family.
    """
    components, weights = load_base(settings.places)
    return PromptedSystem(settings, StableDiffusionPipeline(**components, **NO_CHECKER), weights, control=None)


def load_base(places: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The components of Stable Diffusion with the DDIM sampler, and where their weights come from.

    Raises:
        SetupError: a part is missing.
        CheckpointError: weights are missing or not finite, or the base is of another family.
    """
    base = locate("base", places)
    frozen = load_frozen(base)
    components = {
        "vae": frozen.vae,
        "text_encoder": frozen.text_encoder,
        "tokenizer": frozen.tokenizer,
        "unet": load_unet(base).requires_grad_(False).eval(),
        "scheduler": make_sampler(load_scheduler(base)),
    }
    return components, record(resolve_base(base), "unet", "vae", "text_encoder")


def factor_of(vae: Any) -> int:
    """Image pixels per latent cell and side, 8 for Stable Diffusion."""
    return 2 ** (len(vae.config.block_out_channels) - 1)

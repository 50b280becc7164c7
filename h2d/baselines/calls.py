"""How the pipelines of the compared systems are called: what they have in common, whatever their control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from h2d.baselines.presets import Preset
from h2d.baselines.settings import Settings
from h2d.networks.frozen import FrozenParts
from h2d.pipelines.checks import check_poses, text_warnings
from h2d.pipelines.noise import draw_noise


@dataclass(frozen=True)
class Texts:
    """Embeddings ``(B, L, D)`` of the prompts and of the negative prompt, and what is to be said about each prompt."""

    positive: Tensor
    negative: Tensor
    remarks: list[tuple[str, ...]]

    @classmethod
    def of(cls, pipeline: Any, prompts: list[str], preset: Preset) -> Texts:
        """Encode prompts with the preset's words."""
        parts = parts_of(pipeline)
        full = [f"{prompt}, {preset.added}" if preset.added else prompt for prompt in prompts]
        remarks = [tuple(f"prompt cut: {line}" for line in text_warnings([text], parts.tokenizer)) for text in full]
        negative = parts.encode_text([preset.negative]).expand(len(full), -1, -1)
        return cls(parts.encode_text(full), negative, remarks)

    def arguments(self) -> dict[str, Tensor]:
        """As diffusers' pipelines take them."""
        return {"prompt_embeds": self.positive, "negative_prompt_embeds": self.negative}


def check_request(prompts: list[str], poses: np.ndarray, generators: list[torch.Generator], size: int) -> None:
    """Refuse what :meth:`System.generate` cannot work with.

    Raises:
        ValueError: naming the argument.
    """
    check_poses(poses, len(prompts), size, size)
    if not len(prompts) == len(poses) == len(generators) or poses.ndim != 3:
        raise ValueError(
            f"prompts, poses and generators must be of one number, got {len(prompts)}, {poses.shape}, {len(generators)}"
        )


def run_arguments(pipeline: Any, settings: Settings, seeds: list[torch.Generator]) -> dict[str, Any]:
    """The arguments of a pipeline that have nothing to do with text or control.

    Args:
        pipeline: to be called.
        settings: how.
        seeds: one for each image; the starting noise is drawn from them on the CPU, then what the pipeline itself adds.
    """
    side = settings.size // parts_of(pipeline).factor
    return {
        "height": settings.size,
        "width": settings.size,
        "num_inference_steps": settings.preset.steps,
        "guidance_scale": settings.preset.guidance,
        "eta": settings.preset.eta,
        "latents": draw_noise((4, side, side), seeds, settings.device).to(settings.dtype),
        "generator": seeds,
        "output_type": "latent",
    }


def parts_of(pipeline: Any) -> FrozenParts:
    """VAE, text encoder and tokenizer of a pipeline."""
    return FrozenParts(pipeline.vae, pipeline.text_encoder, pipeline.tokenizer)


def ready(pipeline: Any, settings: Settings) -> Any:
    """A pipeline on its device, without a progress bar for every batch."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            nn.Module.to(part, device=settings.device, dtype=settings.dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint(pipeline: Any, **arguments: Any) -> list[np.ndarray]:
    """Call a pipeline that answers with latents, and decode them to uint8 images ``(S, S, 3)``."""
    decoded = parts_of(pipeline).decode(pipeline(**arguments).images)
    return list(((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())

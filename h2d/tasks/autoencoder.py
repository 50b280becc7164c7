"""The tiny base model's image autoencoder, from scratch."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from h2d.config import Experiment
from h2d.networks.tiny import tiny_vae
from h2d.tasks.base import DiffusionTask

KL_WEIGHT = 1e-6
"""Weight of the latents' divergence from a standard normal, small as in latent diffusion."""
STD_MOMENTUM = 0.02
"""Share of the current batch in the running spread of the latents."""


class Autoencoder(DiffusionTask):
    """Trains a VAE on the images and measures the spread of its latents, which sets its scaling factor on export.

    Args:
        experiment: every setting.
        vae: trained.
    """

    latent_std: Tensor

    def __init__(self, experiment: Experiment, vae: AutoencoderKL) -> None:
        super().__init__(experiment, held=())
        self.vae = vae
        self.register_buffer("latent_std", torch.ones(()))

    @classmethod
    def from_base(cls, experiment: Experiment) -> Autoencoder:
        return cls(experiment, tiny_vae())

    @property
    def factor(self) -> int:
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    def losses(self, batch: dict[str, Any], rng: torch.Generator) -> dict[str, Tensor]:
        """Absolute error of pixels and of image gradients, and the KL term; image (B, 3, S, S) in [-1, 1]."""
        image = batch["image"]
        posterior = self.vae.encode(image).latent_dist
        latents = posterior.sample(generator=rng)
        if self.training:
            self.latent_std.lerp_(latents.detach().std(), STD_MOMENTUM)
        pixels, edges = reconstruction_losses(image, self.vae.decode(latents).sample)
        kl = posterior.kl().mean()
        return {"loss": pixels + edges + KL_WEIGHT * kl, "pixels": pixels, "edges": edges, "kl": kl}


def reconstruction_losses(image: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute error of the pixels and of the horizontal and vertical differences between them."""
    error = decoded - image
    return error.abs().mean(), error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()

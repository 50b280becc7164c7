"""A feature network that comes with h2d: the small model's autoencoder, for a Fréchet distance without any download.

It sees colours and layout at a fourth of the resolution and nothing of what Inception knows about the world. Its
number has a name of its own, ``fd_latents``, and is comparable with no published FID.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from h2d.files import sha256_of
from h2d.metrics.features import Features
from h2d.networks.base import load_part, resolve_base

CELLS = 4
"""The latents' channels are averaged, and their deviation taken, over so many rows and columns of cells."""
BASE = "tiny-model"


class LatentMoments(nn.Module):
    """Mean and deviation of latents in a grid of cells.

    Args:
        vae: frozen; images are resized to the size it was made for.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae.requires_grad_(False).eval()
        self.side = int(vae.config["sample_size"])
        self.num_features = 2 * int(vae.config["latent_channels"]) * CELLS**2

    def forward(self, images: Tensor) -> Tensor:
        """Features float32 ``(B, num_features)`` of uint8 images ``(B, 3, H, W)``."""
        resized = functional.interpolate(images.float(), (self.side, self.side), mode="bilinear", antialias=True)
        latents = self.vae.encode(resized / 127.5 - 1).latent_dist.mode() * self.vae.config["scaling_factor"]
        mean = functional.adaptive_avg_pool2d(latents, CELLS)
        variance = functional.adaptive_avg_pool2d(latents.square(), CELLS) - mean.square()
        return torch.cat([mean, variance.clamp(min=0).sqrt()], dim=1).flatten(1)


def load_latent_moments(device: torch.device | str = "cpu") -> Features:
    """The network with the shipped weights.

    Raises:
        SetupError: they are missing.
    """
    folder = resolve_base(BASE)
    vae = load_part(AutoencoderKL, folder, "vae")
    weights = Path(folder, "vae", "diffusion_pytorch_model.safetensors")
    name = f"autoencoder of {BASE}: mean and deviation of its latents in {CELLS} x {CELLS} cells"
    return Features(LatentMoments(vae), name, device, sha256_of(weights))

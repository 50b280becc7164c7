"""A base model's image autoencoder, from scratch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from h2d.config import Experiment
from h2d.losses import Losses
from h2d.networks.scratch import SIZES, new_vae, opponent_colours
from h2d.tasks.base import DiffusionTask, Random

COLOUR_WEIGHT = 2.0
HUE_WEIGHT = (0.6, 1.4, 2.0)
"""Of errors of brightness, orange against blue and green against magenta."""
LATENT_WEIGHT = 0.2
"""Of what the first three latents differ from their cell's colour."""
COLOUR_SPREAD = (0.78, 0.18, 0.13)
"""Standard deviation of brightness and the two hues over cells of pictures of rendered people."""
KL_WEIGHT = 4e-3
"""Of the divergence of a latent from a standard normal, which holds the scale of the fourth.

At ten times as much the posterior's deviation stayed at 0.22 of latents of deviation 1, a noise that edges are lost in.
"""
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
        """The VAE with random weights."""
        return cls(experiment, new_vae(SIZES[experiment.model.scratch]))

    @property
    def factor(self) -> int:
        """Image pixels per latent cell and side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def networks(self) -> tuple[AutoencoderKL]:
        """The VAE."""
        return (self.vae,)

    def losses(self, batch: dict[str, Any], rng: Random) -> Losses:
        """Absolute errors of pixels, edges and colours, and the terms of the latents; image (B, 3, S, S) in [-1, 1]."""
        image = random_parts(batch["image"], self.experiment.data.patch, rng)
        posterior = self.vae.encode(image).latent_dist
        latents = posterior.sample(generator=list(rng))
        if self.training:
            spread = latents.detach().float().std()
            spread = torch.where(torch.isfinite(spread), spread, self.latent_std)  # a step that will be left out
            self.latent_std.lerp_(spread, STD_MOMENTUM)
        pixels, edges, colours = reconstruction_losses(image, self.vae.decode(latents).sample)
        cells, kl = latent_loss(image, latents), posterior.kl().mean() / latents[0].numel()
        total = pixels + edges + COLOUR_WEIGHT * colours + LATENT_WEIGHT * cells + KL_WEIGHT * kl
        return Losses(total, {"pixels": pixels, "edges": edges, "colours": colours, "latents": cells, "kl": kl})


def random_parts(images: Tensor, side: int | None, rng: Random) -> Tensor:
    """A square of ``side`` pixels at a random place of each image (B, 3, S, S), (B, 3, side, side); None keeps all."""
    if side is None:
        return images
    room = images.shape[-1] - side + 1
    places = [torch.randint(room, (2,), generator=one).tolist() for one in rng]
    parts = [image[:, y : y + side, x : x + side] for image, (y, x) in zip(images, places, strict=True)]
    return torch.stack(parts)


def reconstruction_losses(image: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean absolute errors of the pixels, of the differences between neighbours, and of the colours of 8 x 8 pixels.

    Colours are compared as brightness and hues, since four channels describe brightness and its edges first.

    Args:
        image: (B, 3, S, S) in [-1, 1].
        decoded: of the same shape.
    """
    error = decoded - image
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colours = cell_colours(error, 8)
    return error.abs().mean(), edges, (colours * colours.new_tensor(HUE_WEIGHT).view(3, 1, 1)).abs().mean()


def latent_loss(image: Tensor, latents: Tensor) -> Tensor:
    """Huber distance of the first three latents from brightness and hues of their cell, both of deviation about 1.

    Without it an encoder that starts from nothing drops what varies least, green against magenta, for thousands of
    steps, since the decoder, which could ask for it, has never seen any. Details still fit in as small differences.

    Args:
        image: (B, 3, S, S) in [-1, 1].
        latents: (B, 4, h, w).
    """
    colours = cell_colours(image, image.shape[-1] // latents.shape[-1])
    return F.smooth_l1_loss(latents[:, :3], colours / colours.new_tensor(COLOUR_SPREAD).view(3, 1, 1))


def cell_colours(image: Tensor, side: int) -> Tensor:
    """Brightness and two hues (B, 3, S / side, S / side) of squares of an image (B, 3, S, S), likewise of errors."""
    return torch.einsum("oc,bcyx->boyx", opponent_colours().to(image), F.avg_pool2d(image, side))

"""The parts of Stable Diffusion that are never trained and never in a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None


class FrozenParts:
    """VAE, text encoder and tokenizer, frozen and in eval mode.

    A plain object and not an ``nn.Module``: a LightningModule that holds it keeps the weights out of its state_dict,
    its optimizer and the averaged copy of an EMA (a deep copy shares the parts).
    """

    def __init__(self, vae: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
        self.vae = vae.requires_grad_(False).eval()
        self.text_encoder = text_encoder.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self._digest: str | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenParts:
        return self

    @property
    def factor(self) -> int:
        """Image pixels per latent cell and side, 8 for Stable Diffusion."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> FrozenParts:
        """Move the parts; returns itself. Latents, text embeddings and images stay float32 at any ``dtype``."""
        if dtype not in (None, self.vae.dtype):
            self._digest = self.vae_digest
        for part in (self.vae, self.text_encoder):
            nn.Module.to(part, device=device, dtype=dtype)
        return self

    @torch.no_grad()
    def encode_image(self, image: Tensor, generator: Generators = None, sample: bool = True) -> Tensor:
        """Images ``(B, 3, H, W)`` in [-1, 1] to scaled float32 latents ``(B, 4, H/factor, W/factor)``.

        Args:
            image: on the VAE's device; or its cached :meth:`moments` ``(B, 8, h, w)``.
            generator: source of the posterior sample; a list gives each image its own.
            sample: draw from the posterior; False takes its mode and needs no randomness.
        """
        moments = image if image.shape[1] != self.vae.config.in_channels else self.moments(image)
        posterior = DiagonalGaussianDistribution(moments.to(_device(self.vae, moments), torch.float32))
        latents = posterior.sample(_one_or_list(generator)) if sample else posterior.mode()
        return latents * self.vae.config.scaling_factor

    @torch.no_grad()
    def moments(self, image: Tensor) -> Tensor:
        """Mean and log variance, float32 ``(B, 8, h, w)``, of the posterior of images ``(B, 3, H, W)`` in [-1, 1]."""
        return self.vae.encode(image.to(_device(self.vae, image), self.vae.dtype)).latent_dist.parameters.float()

    @property
    def vae_digest(self) -> str:
        """Sixteen hexadecimal digits that tell the weights of the VAE, as they were before :meth:`to` rounded them."""
        if self._digest is not None:
            return self._digest
        digest = hashlib.sha256()
        for name, tensor in sorted(self.vae.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents ``(B, 4, h, w)`` to float32 images ``(B, 3, h*factor, w*factor)`` in [-1, 1]."""
        image = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample
        return image.float().clamp(-1, 1)

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """Captions to float32 embeddings ``(B, L, D)``; longer ones are cut at the tokenizer's L tokens."""
        ids = self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return self.text_encoder(ids.to(_device(self.text_encoder, ids)))[0].float()


def _device(part: AutoencoderKL | CLIPTextModel, tensor: Tensor) -> torch.device:
    """Where the input of a part goes; sequential offloading, whose weights wait on "meta", moves it by itself."""
    place = next(part.parameters()).device  # diffusers' own property walks through all modules at every call
    return tensor.device if place.type == "meta" else place


def _one_or_list(generator: Generators) -> Any:
    """As diffusers tells the two apart."""
    return generator if generator is None or isinstance(generator, torch.Generator) else list(generator)

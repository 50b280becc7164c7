"""A base model's UNet and text encoder, both trained."""

from __future__ import annotations

from typing import Any

from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from h2d.config import Experiment
from h2d.losses import Losses, noise_error, weighted_mean
from h2d.networks.base import load_frozen, load_part, load_scheduler, load_unet, resolve_base
from h2d.networks.frozen import FrozenParts
from h2d.tasks.base import DiffusionTask, Random, add_noise, drop_captions


class TextToImage(DiffusionTask):
    """Trains UNet and text encoder together to predict the noise, in the latents of a frozen VAE.

    Args:
        experiment: every setting.
        unet: trained.
        text_encoder: trained.
        parts: VAE and tokenizer, frozen; its text encoder is not used.
        scheduler: the noise schedule.
    """

    def __init__(
        self,
        experiment: Experiment,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel,
        parts: FrozenParts,
        scheduler: DDPMScheduler,
    ) -> None:
        super().__init__(experiment, held=(parts.vae,))
        self.unet, self.text_encoder = unet, text_encoder
        self.parts, self.scheduler = parts, scheduler

    @classmethod
    def from_base(cls, experiment: Experiment) -> TextToImage:
        """Those of ``model.base``, where :mod:`h2d.scratch_base` left random ones or another training its own."""
        base, unet = experiment.model.base, load_unet(experiment.model.base, experiment.model.unet)
        text_encoder = load_part(CLIPTextModel, resolve_base(base), "text_encoder")
        return cls(experiment, unet, text_encoder, load_frozen(base), load_scheduler(base))

    @property
    def factor(self) -> int:
        """Image pixels per latent cell and side."""
        return self.parts.factor

    @property
    def networks(self) -> tuple[UNet2DConditionModel]:
        """The UNet."""
        return (self.unet,)

    def losses(self, batch: dict[str, Any], rng: Random) -> Losses:
        """Weighted noise error on a batch of images (B, 3, S, S) in [-1, 1] and their captions."""
        latents = self.parts.encode_image(batch["image"], generator=rng)
        noisy, _, timesteps, target = add_noise(latents, self.scheduler, rng)
        text = self.encode_text(drop_captions(batch["caption"], self.experiment.loss.caption_dropout, rng))
        errors = noise_error(target, self.unet(noisy, timesteps, text).sample)
        loss = weighted_mean(errors, self.noise_weight(self.scheduler, timesteps))
        return Losses(loss, {"ldm": errors.mean()}, timesteps, errors)

    def encode_text(self, captions: list[str]) -> Tensor:
        """Hidden states (B, L, D) of the captions, cut or padded to the tokenizer's length."""
        tokens = self.parts.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        return self.text_encoder(tokens["input_ids"].to(self.device)).last_hidden_state

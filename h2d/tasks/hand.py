"""Stage I: the multi-task hand generator (Section III-B)."""

from __future__ import annotations

from typing import Any

from diffusers import DDPMScheduler
from torch import Tensor

from h2d.config import Experiment
from h2d.losses import Losses, hand_loss, noise_error, weighted_mean
from h2d.networks.base import load_frozen, load_scheduler, load_unet
from h2d.networks.frozen import FrozenParts
from h2d.networks.hand_start import load_hand_unet
from h2d.networks.hand_unet import HandUNet, hand_condition
from h2d.tasks.base import DiffusionTask, Random, add_noise, chances, drop_captions


class HandGenerator(DiffusionTask):
    """Trains the whole UNet and its mask head to predict the noise and the hand mask (Eq. 7).

    Args:
        experiment: every setting.
        unet: the widened UNet with the mask head; trained.
        parts: VAE, text encoder and tokenizer; frozen.
        scheduler: the noise schedule of the base model.
    """

    def __init__(self, experiment: Experiment, unet: HandUNet, parts: FrozenParts, scheduler: DDPMScheduler) -> None:
        super().__init__(experiment, held=(parts.vae, parts.text_encoder))
        self.unet = unet
        self.parts, self.scheduler = parts, scheduler

    @classmethod
    def from_base(cls, experiment: Experiment) -> HandGenerator:
        """The base model's UNet, widened, with a new mask head, or a trained one of this kind."""
        model = experiment.model
        parts = load_frozen(model.base)
        unet = HandUNet.from_unet(
            load_unet(model.base, model.unet),
            factor=parts.factor,
            init=model.conv_in_init,
            attach=model.mask_attach,
            layers=model.mask_layers,
        )
        if model.hand_unet is not None:
            unet = load_hand_unet(model.hand_unet, unet)
        return cls(experiment, unet, parts, load_scheduler(model.base))

    @property
    def factor(self) -> int:
        """Image pixels per latent cell and side."""
        return self.parts.factor

    @property
    def networks(self) -> tuple[HandUNet]:
        """The UNet with its mask head."""
        return (self.unet,)

    def losses(self, batch: dict[str, Any], rng: Random) -> Losses:
        """Eq. 8-9 on a batch of hand crops.

        Args:
            batch: image (B, 3, S, S) in [-1, 1], heatmaps (B, 10, h, w) in [0, 1], hand_mask (B, 1, S, S) in {0, 1}
                and B captions.
        """
        settings = self.experiment.loss
        latents = self.parts.encode_image(batch["image"], generator=rng)
        noisy, _, timesteps, target = add_noise(latents, self.scheduler, rng)
        condition = hand_condition(batch["heatmaps"], drop_masks(batch["hand_mask"], settings.mask_dropout, rng))
        text = self.parts.encode_text(drop_captions(batch["caption"], settings.caption_dropout, rng))
        predicted = self.unet(noisy, timesteps, text, condition)
        errors = noise_error(target, predicted.noise)
        ldm = weighted_mean(errors, self.noise_weight(self.scheduler, timesteps))
        assert predicted.mask is not None
        loss, mask = hand_loss(ldm, batch["hand_mask"], predicted.mask, settings.mask_weight)
        return Losses(loss, {"ldm": ldm, "mask": mask}, timesteps, errors)


def drop_masks(hand_mask: Tensor, probability: float, rng: Random) -> Tensor:
    """Replace the whole mask of each sample (B, 1, S, S) by zeros with ``probability`` (Section III-B)."""
    kept = chances(rng).view(-1, 1, 1, 1) >= probability
    return hand_mask * kept.to(hand_mask)

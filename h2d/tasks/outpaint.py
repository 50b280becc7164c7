"""Stage II: the body outpainter (Section III-C)."""

from __future__ import annotations

from typing import Any

from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from h2d.config import Experiment
from h2d.losses import Losses, noise_error, weighted_mean
from h2d.masks import blend, canvas_at, to_latent
from h2d.networks.base import load_frozen, load_scheduler, load_unet
from h2d.networks.controlnet import load_controlnet
from h2d.networks.frozen import FrozenParts
from h2d.tasks.base import DiffusionTask, Random, add_noise, drop_captions


class Outpainter(DiffusionTask):
    """Trains the ControlNet to complete an image around its hands; the UNet that it steers stays frozen.

    Args:
        experiment: every setting.
        controlnet: reads the skeleton and the hand mask; trained.
        unet: the base model's UNet; frozen.
        parts: VAE, text encoder and tokenizer; frozen.
        scheduler: the noise schedule of the base model.
    """

    def __init__(
        self,
        experiment: Experiment,
        controlnet: ControlNetModel,
        unet: UNet2DConditionModel,
        parts: FrozenParts,
        scheduler: DDPMScheduler,
    ) -> None:
        super().__init__(experiment, held=(parts.vae, parts.text_encoder, unet))
        self.controlnet = controlnet
        self.parts, self.scheduler = parts, scheduler

    @classmethod
    def from_base(cls, experiment: Experiment) -> Outpainter:
        """The ControlNet that the experiment names, beside the base model's UNet."""
        model = experiment.model
        parts, unet = load_frozen(model.base), load_unet(model.base, model.unet)
        controlnet = load_controlnet(model.controlnet, unet, mask_hint=model.mask_hint, factor=parts.factor)
        return cls(experiment, controlnet, unet, parts, load_scheduler(model.base))

    @property
    def unet(self) -> UNet2DConditionModel:
        """The frozen UNet, which is no submodule and thus in no checkpoint."""
        return self.held.networks[2]

    @property
    def factor(self) -> int:
        """Image pixels per latent cell and side."""
        return self.parts.factor

    @property
    def networks(self) -> tuple[ControlNetModel, UNet2DConditionModel]:
        """The ControlNet, and the frozen UNet, whose decoder gradients pass."""
        return self.controlnet, self.unet

    def losses(self, batch: dict[str, Any], rng: Random) -> Losses:
        """The masked L2 on a batch of people.

        Args:
            batch: image and canvas (B, 3, S, S) in [-1, 1], hint (B, 4, S, S) in [0, 1], hand_mask (B, 1, S, S) in
                {0, 1} and B captions.
        """
        latents = self.parts.encode_image(batch["image"], generator=rng)
        noisy, noise, timesteps, target = add_noise(latents, self.scheduler, rng)
        mask_latent = None
        if self.experiment.loss.blend_hands:
            mask_latent = to_latent(batch["hand_mask"], self.parts.factor)
            hands = self.parts.encode_image(batch["canvas"], generator=rng)
            hands = canvas_at(self.scheduler, hands, noise, timesteps, self.experiment.sampling.blend)
            noisy = blend(hands, noisy, mask_latent)
        captions = drop_captions(batch["caption"], self.experiment.loss.caption_dropout, rng)
        predicted = self.predict(noisy, timesteps, self.parts.encode_text(captions), batch["hint"])
        errors = noise_error(target, predicted, keep=mask_latent)
        loss = weighted_mean(errors, self.noise_weight(self.scheduler, timesteps))
        return Losses(loss, {"ldm": loss}, timesteps, errors)

    def predict(self, noisy: Tensor, timesteps: Tensor, text: Tensor, hint: Tensor) -> Tensor:
        """The noise that the UNet predicts under the ControlNet's guidance, (B, 4, h, w)."""
        hint = hint[:, : self.controlnet.config["conditioning_channels"]]
        down, mid = self.controlnet(noisy, timesteps, text, hint, return_dict=False)
        return self.unet(
            noisy, timesteps, text, down_block_additional_residuals=down, mid_block_additional_residual=mid
        ).sample

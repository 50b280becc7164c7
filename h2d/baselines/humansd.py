"""HumanSD: Stable Diffusion v2.1-base whose UNet also reads the latents of a drawn skeleton.

The skeleton goes through the VAE like an image and is concatenated to the noisy latents in both branches of guidance.
HumanSD encodes it with a sample of the posterior; here it is the mode, so that nothing but the seed decides. Its demo
leaves out the first of its 50 steps, which is not done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import BaseOutput
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from h2d.baselines.checkpoints import load_original_unet
from h2d.baselines.places import locate, record
from h2d.baselines.prompted import PromptedSystem
from h2d.baselines.settings import Control, Settings
from h2d.baselines.skeletons import draw_humansd
from h2d.errors import CheckpointError
from h2d.networks.base import load_frozen, load_scheduler, make_sampler, resolve_base
from h2d.networks.family import part_config
from h2d.pipelines.inputs import check_choice
from h2d.pipelines.sampling import SamplingPipeline, for_guidance, guide, join_text

CHANNELS = 8
"""Noisy latents, then those of the skeleton."""
CONTROL = Control("HumanSD: 16 bones of the body, in the latents", draw_humansd, strength=None)
_BASE_HINT = "sd21-base has to be Stable Diffusion v2.1-base, the one of 512 px that predicts noise"


@dataclass
class HumanSDOutput(BaseOutput):
    """Clean latents ``(B, 4, h, w)``, which diffusers calls images when the output type is "latent"."""

    images: Tensor


class HumanSDPipeline(SamplingPipeline):
    """Samples with a UNet of eight input channels."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler: Any,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        image: Tensor,
        *,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor,
        height: int,
        width: int,
        latents: Tensor,
        generator: list[torch.Generator],
        num_inference_steps: int = 50,
        guidance_scale: float = 9.0,
        eta: float = 0.0,
        output_type: str = "latent",
    ) -> HumanSDOutput:
        """One image for each skeleton.

        Args:
            image: skeletons ``(B, 3, height, width)`` in [0, 1].
            prompt_embeds: ``(B, L, D)``.
            negative_prompt_embeds: ``(B, L, D)``.
            height: of the images in pixels.
            width: of the images in pixels.
            latents: standard normal noise ``(B, 4, h, w)``.
            generator: one for each image, for ``eta``.
            num_inference_steps: of the scheduler.
            guidance_scale: of classifier-free guidance.
            eta: of DDIM.
            output_type: "latent"; there is no other.

        Raises:
            ValueError: the skeletons have another size.
        """
        if image.shape[-2:] != (height, width):
            raise ValueError(f"image must be of {height} x {width} pixels, got {tuple(image.shape[-2:])}")
        check_choice("output_type", output_type, ("latent",))
        device, dtype = self._execution_device, self.unet.dtype
        text = join_text(prompt_embeds, negative_prompt_embeds).to(device, dtype)
        skeleton = self.parts.encode_image(2 * image.to(device) - 1, sample=False).to(dtype)

        def predict(step: int, sample: Tensor, timestep: Tensor) -> Tensor:
            seen = for_guidance(torch.cat([sample.to(dtype), skeleton], dim=1), guidance_scale)
            return guide(self.unet(seen, timestep, text).sample.float(), guidance_scale)

        clean = self.denoise(latents.to(device).float(), predict, num_inference_steps, generator, eta=eta)
        return HumanSDOutput(images=clean)


def load_humansd(settings: Settings) -> PromptedSystem:
    """HumanSD: its UNet over the VAE and text encoder of Stable Diffusion v2.1-base, which it was trained with.

    Raises:
        SetupError: a part is missing.
        CheckpointError: weights are wrong, or the base is another one.
    """
    base, file = resolve_base(locate("sd21-base", settings.places)), locate("humansd", settings.places)
    try:
        frozen = load_frozen(base)
        config = part_config(base, "unet") | {"in_channels": CHANNELS}
    except CheckpointError as error:
        raise CheckpointError(error.message, _BASE_HINT) from error
    scheduler = load_scheduler(base)
    if (predicted := scheduler.config["prediction_type"]) != "epsilon":
        raise CheckpointError(f"{base}/scheduler: prediction_type is {predicted}, needed epsilon", _BASE_HINT)
    pipeline = HumanSDPipeline(
        load_original_unet(Path(file), config),
        frozen.vae,
        frozen.text_encoder,
        frozen.tokenizer,
        make_sampler(scheduler),
    )
    weights = record(base, "vae", "text_encoder") | {"unet": next(iter(record(file).values()))}
    return PromptedSystem(settings, pipeline, weights, CONTROL)

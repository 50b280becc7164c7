"""Stage II, sampling: the body painted around given hands (Sections III-C and III-D)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.utils import BaseOutput
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from h2d.masks import BLENDS, blend, canvas_at, dilate, expansion_radius, to_latent
from h2d.networks.controlnet import HINT_CHANNELS
from h2d.pipelines.sampling import (
    OUTPUT_TYPES,
    Callback,
    Generators,
    SamplingPipeline,
    check_choice,
    check_shape,
    draw_noise,
    for_guidance,
    guide,
    one_for_each,
    spawn_each,
)

BLENDINGS = ("sequential", "naive", "bbox")
"""Table II: mask expansion, the hand mask as it is, the square of the crop."""
REFERENCE_SIZE = 512
"""Image size at which ``start_radius_px`` is given."""


@dataclass
class OutpaintOutput(BaseOutput):
    """Images as ``output_type`` says."""

    images: Any


class OutpaintPipeline(SamplingPipeline):
    """Completes a canvas that holds nothing but hands."""

    model_cpu_offload_seq = "text_encoder->vae->unet"

    def __init__(
        self,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler: Any,
    ) -> None:
        super().__init__()
        self.register_modules(
            unet=unet,
            controlnet=controlnet,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        hint: Tensor,
        canvas: Tensor,
        hand_mask: Tensor,
        *,
        blending: str = "sequential",
        bbox_mask: Tensor | None = None,
        blend: str = "noised",
        start_radius_px: float = 49,
        unblended_last_steps: int = 2,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        negative_prompt: str | list[str] | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
        return_dict: bool = True,
    ) -> OutpaintOutput | tuple[Any]:
        """Paint everything but the hands; the pixels of the hands come out as they were.

        Args:
            prompt: one text, or one for each canvas.
            hint: ``(B, 4, S, S)`` in [0, 1]: skeleton RGB, then the precise hand mask, which is never dilated. A
                ControlNet without mask hint reads the first three channels.
            canvas: ``(B, 3, S, S)`` in [-1, 1], -1 (black) where there is no hand.
            hand_mask: ``(B, 1, S, S)`` in {0, 1}, 1 = hand = keep.
            blending: one of :data:`BLENDINGS`.
            bbox_mask: ``(B, 1, S, S)``, the squares that "bbox" keeps; the canvas holds their background.
            blend: one of :data:`h2d.masks.BLENDS`, the one that the ControlNet was trained with.
            start_radius_px: dilation at the first step of "sequential", in pixels at image size 512.
            unblended_last_steps: scheduler steps at the end that see the full latents.
            num_inference_steps: number of scheduler steps.
            guidance_scale: of classifier-free guidance; 1 and less turn it off.
            negative_prompt: text of the unconditional branch, empty by default.
            generator: one, or one for each image.
            latents: standard normal noise ``(B, 4, h, w)`` to start from instead of drawing it.
            output_type: "pil", "np", "pt" (the last two in [0, 1]), or "latent", which has no pixel paste.
            callback_on_step_end: see :data:`h2d.pipelines.sampling.Callback`.
            return_dict: False returns a plain tuple.

        Raises:
            ValueError: when an argument has another form.
        """
        # 1. Check inputs
        count, size, factor = len(canvas), canvas.shape[-1], self.parts.factor
        side = size // factor
        check_shape("canvas", canvas, ("B", 3, side * factor, side * factor))
        check_shape("hint", hint, (count, HINT_CHANNELS, size, size))
        check_shape("hand_mask", hand_mask, (count, 1, size, size))
        check_choice("blending", blending, BLENDINGS)
        check_choice("blend", blend, BLENDS)
        check_choice("output_type", output_type, OUTPUT_TYPES)
        if latents is not None:
            check_shape("latents", latents, (count, 4, side, side))
        if blending == "bbox":
            if bbox_mask is None:
                raise ValueError("blending='bbox' needs bbox_mask (B, 1, S, S), got None")
            check_shape("bbox_mask", bbox_mask, (count, 1, size, size))
        device, dtype = self._execution_device, self.unet.dtype
        generators = spawn_each(generator, count)

        # 2. Conditions and noise
        text = self.embed(one_for_each("prompt", prompt, count), negative_prompt, guidance_scale).to(dtype)
        hint = for_guidance(hint[:, : self.controlnet.config.conditioning_channels].to(device, dtype), guidance_scale)
        canvas = canvas.to(device).float()
        keep = (bbox_mask if blending == "bbox" and bbox_mask is not None else hand_mask).to(device).float()
        noise = draw_noise((4, side, side), generators, device) if latents is None else latents.to(device).float()

        # 3. Denoise, fusing with the canvas after every step but the last ones
        blender = Blender(
            scheduler=self.scheduler,
            canvas_latents=self.parts.encode_image(canvas, sample=False).float(),
            noise=noise,
            mask=keep,
            factor=factor,
            how=blend,
            start_radius_px=start_radius_px * size / REFERENCE_SIZE if blending == "sequential" else 0,
            unblended_last_steps=unblended_last_steps,
        )

        def predict(sample: Tensor, timestep: Tensor) -> Tensor:
            sample = for_guidance(sample.to(dtype), guidance_scale)
            down, mid = self.controlnet(sample, timestep, text, hint, return_dict=False)
            output = self.unet(
                sample, timestep, text, down_block_additional_residuals=down, mid_block_additional_residual=mid
            )
            return guide(output.sample.float(), guidance_scale)

        clean = self.denoise(noise, predict, num_inference_steps, generators, blender, callback_on_step_end)

        # 4. Decode and bring back the hands, pixel by pixel
        images = clean if output_type == "latent" else self._finish(clean, canvas, keep, output_type)
        self.maybe_free_model_hooks()
        return OutpaintOutput(images=images) if return_dict else (images,)

    def _finish(self, latents: Tensor, canvas: Tensor, keep: Tensor, output_type: str) -> Any:
        """``I = m I_c + (1 - m) D(x_0)`` with the initial mask (end of Section III-D)."""
        return self.convert(blend(canvas, self.parts.decode(latents), keep), output_type)


@dataclass
class Blender:
    """Eq. 11 with the expansion of Section III-D: what happens to the latents after each step.

    Args:
        scheduler: of the denoising loop.
        canvas_latents: clean latents ``(B, 4, h, w)`` of the canvas.
        noise: the noise that the trajectory started from; the canvas is noised with the same.
        mask: ``(B, 1, S, S)`` in {0, 1}, 1 = keep.
        factor: image pixels per latent cell and side.
        how: one of :data:`h2d.masks.BLENDS`.
        start_radius_px: dilation at the first step in pixels of this image; 0 is the naive strategy.
        unblended_last_steps: steps at the end without blending.
    """

    scheduler: Any
    canvas_latents: Tensor
    noise: Tensor
    mask: Tensor
    factor: int
    how: str
    start_radius_px: float
    unblended_last_steps: int

    def __call__(self, step: int, latents: Tensor) -> Tensor:
        """Latents ``(B, 4, h, w)`` after a scheduler step, fused with the canvas at the level that comes next."""
        timesteps = self.scheduler.timesteps
        if step >= len(timesteps) - self.unblended_last_steps:
            return latents
        level = timesteps[step + 1].expand(len(latents)) if step + 1 < len(timesteps) else None
        known = canvas_at(self.scheduler, self.canvas_latents, self.noise, level, self.how)
        return blend(known, latents, self.mask_latent(step, len(timesteps)))

    def mask_latent(self, step: int, num_steps: int) -> Tensor:
        """The expanded mask of a step at latent size, ``(B, 1, h, w)`` in {0, 1}."""
        radius = expansion_radius(step, num_steps, self.start_radius_px)
        return to_latent(dilate(self.mask, radius), self.factor)

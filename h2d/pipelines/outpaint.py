"""Stage II, sampling: the body painted around given hands (Sections III-C and III-D)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.utils import BaseOutput
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from h2d.masks import BLENDS, blend
from h2d.networks.controlnet import HINT_CHANNELS
from h2d.pipelines.blending import BLENDINGS, REFERENCE_SIZE, Blender
from h2d.pipelines.inputs import check_choice, check_painting, check_shape, check_tensor_inputs
from h2d.pipelines.noise import Generators, draw_noise, spawn_each
from h2d.pipelines.sampling import OUTPUT_TYPES, Callback, SamplingPipeline, for_guidance, guide, join_text, repeat


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
        prompt: str | list[str] | None,
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
        controlnet_conditioning_scale: float = 1.0,
        control_guidance_start: float = 0.0,
        control_guidance_end: float = 1.0,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> OutpaintOutput | tuple[Any]:
        """Paint everything but the hands; the pixels of the hands come out as they were.

        Args:
            prompt: one text, or one for each canvas; None with ``prompt_embeds``.
            hint: ``(B, 4, H, W)`` in [0, 1]: skeleton RGB, then the precise hand mask, which is never dilated. A
                ControlNet without mask hint reads the first three channels.
            canvas: ``(B, 3, H, W)`` in [-1, 1], -1 (black) where there is no hand; whole latent cells high and wide.
            hand_mask: ``(B, 1, H, W)`` in {0, 1}, 1 = hand = keep.
            blending: one of :data:`h2d.pipelines.blending.BLENDINGS`.
            bbox_mask: ``(B, 1, H, W)``, the squares that "bbox" keeps; the canvas holds their background.
            blend: one of :data:`h2d.masks.BLENDS`, the one that the ControlNet was trained with.
            start_radius_px: dilation at the first step of "sequential", in pixels at a shorter side of 512.
            unblended_last_steps: scheduler steps at the end that see the full latents.
            num_inference_steps: number of scheduler steps.
            guidance_scale: of classifier-free guidance; 1 and less turn it off.
            controlnet_conditioning_scale: factor of what the ControlNet adds.
            control_guidance_start: share of the steps at which the ControlNet sets in.
            control_guidance_end: share of the steps at which it stops.
            negative_prompt: text of the unconditional branch, empty by default.
            num_images_per_prompt: N images for each canvas, all of the first one first.
            eta: of DDIM, 0 is deterministic; other schedulers have none.
            generator: one, or one for each of the B x N images.
            latents: standard normal noise ``(B x N, 4, h, w)`` to start from instead of drawing it.
            prompt_embeds: text embeddings ``(B, L, D)`` in place of ``prompt``.
            negative_prompt_embeds: the same in place of ``negative_prompt``.
            output_type: "pil", "np", "pt" (the last two in [0, 1]), or "latent", which has no pixel paste.
            return_dict: False returns a plain tuple.
            callback_on_step_end: see :data:`h2d.pipelines.sampling.Callback`.
            callback_on_step_end_tensor_inputs: what the callback is given; there are the latents only.

        Raises:
            ValueError: when an argument has another form.
        """
        # 1. Check inputs
        factor = self.parts.factor
        prompts, height, width = len(canvas), *(side // factor for side in canvas.shape[-2:])
        count, size = prompts * num_images_per_prompt, (height * factor, width * factor)
        check_shape("canvas", canvas, ("B", 3, *size))
        check_shape("hint", hint, (prompts, HINT_CHANNELS, *size))
        check_shape("hand_mask", hand_mask, (prompts, 1, *size))
        check_choice("blending", blending, BLENDINGS)
        check_choice("blend", blend, BLENDS)
        check_choice("output_type", output_type, OUTPUT_TYPES)
        check_painting(
            num_inference_steps=num_inference_steps,
            unblended_last_steps=unblended_last_steps,
            start_radius_px=start_radius_px,
            guidance_scale=guidance_scale,
            controlnet_conditioning_scale=controlnet_conditioning_scale,
            eta=eta,
            control_guidance_start=control_guidance_start,
            control_guidance_end=control_guidance_end,
            num_images_per_prompt=num_images_per_prompt,
        )
        check_tensor_inputs(callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        if latents is not None:
            check_shape("latents", latents, (count, 4, height, width))
        if blending == "bbox":
            if bbox_mask is None:
                raise ValueError("blending='bbox' needs bbox_mask (B, 1, H, W), got None")
            check_shape("bbox_mask", bbox_mask, (prompts, 1, *size))
        device, dtype = self._execution_device, self.unet.dtype
        generators = spawn_each(generator, count)
        self._interrupt = False

        # 2. Conditions and noise
        positive, negative = self.encode_prompt(
            prompt,
            negative_prompt,
            prompts,
            guidance_scale=guidance_scale,
            num_images_per_prompt=num_images_per_prompt,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
        )
        text = join_text(positive, negative).to(dtype)
        hint = hint[:, : self.controlnet.config.conditioning_channels].to(device, dtype)
        hint = for_guidance(repeat(hint, num_images_per_prompt), guidance_scale)
        keep = bbox_mask if blending == "bbox" and bbox_mask is not None else hand_mask
        canvas, keep = (repeat(given.to(device).float(), num_images_per_prompt) for given in (canvas, keep))
        noise = draw_noise((4, height, width), generators, device) if latents is None else latents.to(device).float()

        # 3. Denoise, fusing with the canvas after every step but the last ones
        blender = Blender(
            scheduler=self.scheduler,
            canvas_latents=self.parts.encode_image(canvas, sample=False).float(),
            noise=noise,
            mask=keep,
            factor=factor,
            how=blend,
            start_radius_px=start_radius_px * min(size) / REFERENCE_SIZE if blending == "sequential" else 0,
            unblended_last_steps=unblended_last_steps,
        )

        def predict(step: int, sample: Tensor, timestep: Tensor) -> Tensor:
            sample = for_guidance(sample.to(dtype), guidance_scale)
            residuals: dict[str, Any] = {}
            steps = len(self.scheduler.timesteps)
            if control_guidance_start <= step / steps and (step + 1) / steps <= control_guidance_end:
                down, mid = self.controlnet(
                    sample, timestep, text, hint, conditioning_scale=controlnet_conditioning_scale, return_dict=False
                )
                residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
            return guide(self.unet(sample, timestep, text, **residuals).sample.float(), guidance_scale)

        with hint_embedded_once(self.controlnet):
            clean = self.denoise(
                noise,
                predict,
                num_inference_steps,
                generators,
                eta=eta,
                after_step=blender,
                callback=callback_on_step_end,
            )

        # 4. Decode and bring back the hands, pixel by pixel
        images = clean if output_type == "latent" else self._finish(clean, canvas, keep, output_type)
        self.maybe_free_model_hooks()
        return OutpaintOutput(images=images) if return_dict else (images,)

    def _finish(self, latents: Tensor, canvas: Tensor, keep: Tensor, output_type: str) -> Any:
        """``I = m I_c + (1 - m) D(x_0)`` with the initial mask (end of Section III-D)."""
        return self.convert(blend(canvas, self.parts.decode(latents), keep), output_type)


@contextmanager
def hint_embedded_once(controlnet: ControlNetModel) -> Iterator[None]:
    """Let the ControlNet embed its hint, which is the same at every step, at the first one only."""
    embedding = controlnet.controlnet_cond_embedding
    hooked = vars(embedding).get("forward")  # by offloading
    embed = embedding.forward
    embedded: list[Tensor] = []

    def once(hint: Tensor) -> Tensor:
        if not embedded:
            embedded.append(embed(hint))
        return embedded[0]

    embedding.forward = once
    try:
        yield
    finally:
        del embedding.forward
        if hooked is not None:
            embedding.forward = hooked

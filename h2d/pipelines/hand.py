"""Stage I, sampling: hand images and their masks from finger heat maps (Section III-B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.utils import BaseOutput
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from h2d.networks.hand_unet import HEATMAP_CHANNELS, HandUNet, hand_condition
from h2d.pipelines.inputs import check_choice, check_count, check_number, check_shape, check_tensor_inputs
from h2d.pipelines.noise import Generators, draw_noise, spawn_each
from h2d.pipelines.sampling import OUTPUT_TYPES, Callback, SamplingPipeline, for_guidance, guide, join_text, repeat


@dataclass
class HandOutput(BaseOutput):
    """Hand images as ``output_type`` says, and their masks ``(B, 1, S, S)`` in [0, 1] (threshold at 0.5)."""

    images: Any
    masks: Tensor


class HandPipeline(SamplingPipeline):
    """Generates square hand crops together with their segmentation masks."""

    model_cpu_offload_seq = "text_encoder->hand_unet->vae"

    def __init__(
        self,
        hand_unet: HandUNet,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler: Any,
    ) -> None:
        super().__init__()
        self.register_modules(
            hand_unet=hand_unet, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None,
        heatmaps: Tensor,
        *,
        hand_mask: Tensor | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
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
    ) -> HandOutput | tuple[Any, Tensor]:
        """Generate one hand crop for each heat map.

        Args:
            prompt: one text, or one for each heat map; None with ``prompt_embeds``.
            heatmaps: ``(B, 10, h, w)`` in [0, 1] at latent size, right thumb..little then left thumb..little.
            hand_mask: ``(B, 1, S, S)`` in {0, 1} to guide the layout; None is mask-free inference.
            num_inference_steps: number of scheduler steps.
            guidance_scale: of classifier-free guidance; 1 and less turn it off. Both branches see the heat maps.
            negative_prompt: text of the unconditional branch, empty by default.
            num_images_per_prompt: N crops for each heat map, all of the first one first.
            eta: of DDIM, 0 is deterministic; other schedulers have none.
            generator: one, or one for each of the B x N images.
            latents: standard normal noise ``(B x N, 4, h, w)`` to start from instead of drawing it.
            prompt_embeds: text embeddings ``(B, L, D)`` in place of ``prompt``.
            negative_prompt_embeds: the same in place of ``negative_prompt``.
            output_type: "pil", "np", "pt" (the last two in [0, 1]) or "latent".
            return_dict: False returns a plain tuple.
            callback_on_step_end: see :data:`h2d.pipelines.sampling.Callback`.
            callback_on_step_end_tensor_inputs: what the callback is given; there are the latents only.

        Raises:
            ValueError: when an argument has another form.
        """
        # 1. Check inputs
        check_shape("heatmaps", heatmaps, ("B", HEATMAP_CHANNELS, "h", "w"))
        check_choice("output_type", output_type, OUTPUT_TYPES)
        check_count("num_inference_steps", num_inference_steps, 1)
        check_count("num_images_per_prompt", num_images_per_prompt, 1)
        check_number("guidance_scale", guidance_scale, 0)
        check_number("eta", eta, 0, 1)
        check_tensor_inputs(callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        prompts, _, height, width = heatmaps.shape
        count = prompts * num_images_per_prompt
        if hand_mask is not None:
            check_shape("hand_mask", hand_mask, (prompts, 1, "S", "S"))
        if latents is not None:
            check_shape("latents", latents, (count, 4, height, width))
        device, dtype = self._execution_device, self.hand_unet.dtype
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
        condition = hand_condition(heatmaps.to(device), None if hand_mask is None else hand_mask.to(device))
        condition = for_guidance(repeat(condition, num_images_per_prompt).to(dtype), guidance_scale)
        noise = draw_noise((4, height, width), generators, device) if latents is None else latents.to(device).float()
        features: Tensor | None = None

        # 3. Denoise; the mask is what the conditional branch sees at the last step
        def predict(step: int, sample: Tensor, timestep: Tensor) -> Tensor:
            nonlocal features
            inputs = (for_guidance(sample.to(dtype), guidance_scale), timestep, text, condition)
            output = self.hand_unet(*inputs, with_mask=False)
            assert output.features is not None
            features = output.features[-count:]
            return guide(output.noise.float(), guidance_scale)

        clean = self.denoise(noise, predict, num_inference_steps, generators, eta=eta, callback=callback_on_step_end)

        # 4. Decode
        if features is None:  # interrupted before the first step
            masks = noise.new_zeros(count, 1, height * self.parts.factor, width * self.parts.factor)
        else:
            masks = self.hand_unet.mask_head(features)
        images = clean if output_type == "latent" else self.convert(self.parts.decode(clean), output_type)
        masks = masks.float().clamp(0, 1)
        self.maybe_free_model_hooks()
        return HandOutput(images=images, masks=masks) if return_dict else (images, masks)

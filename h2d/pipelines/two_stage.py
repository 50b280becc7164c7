"""Both stages in a row: a pose and a text in, people with exact hands out (Fig. 2)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.image_processor import PipelineImageInput
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from h2d.masks import BLENDS
from h2d.networks.hand_unet import HandUNet
from h2d.pipelines.blending import BLENDINGS
from h2d.pipelines.canvas import compose_canvas
from h2d.pipelines.checks import Poses, call_warnings, check_poses, mask_warnings
from h2d.pipelines.crops import generate_hands
from h2d.pipelines.hand import HandPipeline
from h2d.pipelines.inputs import (
    check_choice,
    check_crops,
    check_painting,
    check_size,
    check_tensor_inputs,
    one_for_each,
)
from h2d.pipelines.keeping import Kept, check_labels
from h2d.pipelines.noise import Generators, spawn_each
from h2d.pipelines.outpaint import OutpaintPipeline
from h2d.pipelines.rows import Seeds, Text, TwoStageOutput
from h2d.pipelines.sampling import Callback, SamplingPipeline, number_of_prompts, repeat
from h2d.rendering import draw_openpose


class TwoStagePipeline(SamplingPipeline):
    """Hand generator and outpainter over one VAE, text encoder, tokenizer and scheduler.

    Args:
        hand_unet: stage I.
        unet: the frozen UNet of stage II.
        controlnet: what steers it.
        vae: shared.
        text_encoder: shared.
        tokenizer: shared.
        scheduler: any diffusers scheduler; :func:`h2d.networks.base.make_sampler` gives the paper's DDIM.
        image_size: side of the canvas in pixels where nothing else is said.
        hand_size: side S of the hand crops, what stage I was trained with; that of the canvas where it is not given.
        sigma_px: of the finger heat maps, in pixels of an S x S crop.
        margin: side of a hand's crop as a multiple of its keypoint box.
        wrist: finger channels that show the wrist.
        blend: one of :data:`h2d.masks.BLENDS`, the one that the ControlNet was trained with.
        start_radius_px: what suits the networks, where a call does not say otherwise.
        num_inference_steps: likewise.
        guidance_scale: likewise.
    """

    model_cpu_offload_seq = "text_encoder->hand_unet->vae->unet"

    def __init__(
        self,
        hand_unet: HandUNet,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler: Any,
        image_size: int = 512,
        hand_size: int | None = None,
        sigma_px: float = 8.0,
        margin: float = 1.6,
        wrist: str = "all",
        blend: str = "noised",
        start_radius_px: float = 49.0,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
    ) -> None:
        super().__init__()
        self.register_modules(
            hand_unet=hand_unet,
            unet=unet,
            controlnet=controlnet,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
        )
        hand_size = image_size if hand_size is None else hand_size
        check_size("image_size", image_size, self.parts.factor)
        check_crops(hand_size, sigma_px, margin, wrist, self.parts.factor)
        check_choice("blend", blend, BLENDS)
        self.register_to_config(
            image_size=image_size,
            hand_size=hand_size,
            sigma_px=sigma_px,
            margin=margin,
            wrist=wrist,
            blend=blend,
            start_radius_px=start_radius_px,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        pose: Poses | None = None,
        *,
        hand_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        image: PipelineImageInput | None = None,
        keep_mask: PipelineImageInput | None = None,
        hand_labels: np.ndarray | None = None,
        blending: str = "sequential",
        blend: str | None = None,
        start_radius_px: float | None = None,
        unblended_last_steps: int = 2,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        controlnet_conditioning_scale: float = 1.0,
        control_guidance_start: float = 0.0,
        control_guidance_end: float = 1.0,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Generators = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> TwoStageOutput | tuple[Any, ...]:
        """Generate one image for each pose.

        An image depends on its own pose, text and generator only, whatever else is in the batch. A pose without a
        hand skips stage I: the canvas is empty and stage II paints everything.

        Args:
            prompt: one text, or one for each pose; None with ``prompt_embeds``.
            pose: in pixels of the canvas: ``(133, 3)``, ``(B, 133, 3)`` with a person for each image, or a list with
                the people ``(P, 133, 3)`` of each image.
            hand_prompt: texts of stage I; by default those of ``prompt``.
            height: of the canvas, a multiple of the VAE's factor; the pipeline's ``image_size`` by default.
            width: of the canvas, likewise.
            image: of the canvas' size, where pixels of a picture are to be kept; see ``keep_mask``.
            keep_mask: uint8 255, or 1 of another type, where the pixels of ``image`` are kept to the last bit. Stage I
                makes no hand whose keypoints lie inside for the most part.
            hand_labels: uint8 ``(H, W)`` or ``(B, H, W)``, 1 on right and 2 on left hands, to guide the layout of stage
                I; None is mask-free inference.
            blending: "sequential", "naive" or "bbox" (Table II).
            blend: overrides the pipeline's own setting.
            start_radius_px: dilation at the first step of "sequential", in pixels at a shorter side of 512; the
                pipeline's own by default, as ``num_inference_steps`` and ``guidance_scale``.
            unblended_last_steps: steps at the end of stage II that see the full latents.
            num_inference_steps: scheduler steps of each stage.
            guidance_scale: of classifier-free guidance; 1 and less turn it off.
            controlnet_conditioning_scale: factor of what the ControlNet of stage II adds.
            control_guidance_start: share of the steps at which the ControlNet sets in.
            control_guidance_end: share of the steps at which it stops.
            negative_prompt: text of the unconditional branch of both stages, empty by default.
            num_images_per_prompt: N images for each pose, all of the first one first.
            eta: of DDIM, 0 is deterministic; other schedulers have none.
            generator: one, or one for each of the B x N images.
            prompt_embeds: text embeddings ``(B, L, D)`` in place of ``prompt``, for both stages.
            negative_prompt_embeds: the same in place of ``negative_prompt``.
            output_type: "pil", "np" or "pt" (both in [0, 1]); latents could not hold the exact pixels of the hands.
            return_dict: False returns a plain tuple.
            callback_on_step_end: called in both stages with the pipeline of the stage, see
                :data:`h2d.pipelines.sampling.Callback`. Set that pipeline's ``_interrupt``, or this one's, to stop;
                interrupted in stage I, the images are the canvases.
            callback_on_step_end_tensor_inputs: what the callback is given; there are the latents only.

        Raises:
            ValueError: when an argument has another form.
        """
        # 1. Check inputs
        own = self.config
        height, width = (own.image_size if side is None else side for side in (height, width))
        start_radius_px = own.start_radius_px if start_radius_px is None else start_radius_px
        num_inference_steps = own.num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance_scale = own.guidance_scale if guidance_scale is None else guidance_scale
        for name, side in (("height", height), ("width", width)):
            check_size(name, side, self.parts.factor)
        people = check_poses(pose, number_of_prompts(prompt, prompt_embeds), height, width)
        check_choice("output_type", output_type, ("pil", "np", "pt"))
        check_choice("blending", blending, BLENDINGS)
        check_choice("blend", blend := blend or own.blend, BLENDS)
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
        kept = Kept.of(image, keep_mask, len(people), height, width)
        labels = check_labels(hand_labels, len(people), height, width)
        if hand_prompt is not None:
            one_for_each("hand_prompt", hand_prompt, len(people))
        texts = [one_for_each("prompt", one or "", len(people)) for one in (prompt, hand_prompt, negative_prompt)]
        warnings = call_warnings(people, texts, height, width, self.parts.factor, self.tokenizer)
        self.warn_once(line for lines in warnings for line in lines)
        self._interrupt = False

        # 2. Text, and what N images for each prompt make of it all
        encode = partial(
            self.encode_prompt,
            count=len(people),
            guidance_scale=guidance_scale,
            num_images_per_prompt=num_images_per_prompt,
            negative_prompt_embeds=negative_prompt_embeds,
        )
        text = Text(*encode(prompt, negative_prompt, prompt_embeds=prompt_embeds))
        hand_text = text if hand_prompt is None else Text(*encode(hand_prompt, negative_prompt))
        people, kept, labels, warnings = (
            repeat(given, num_images_per_prompt) for given in (people, kept, labels, warnings)
        )
        shared: dict[str, Any] = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "eta": eta,
            "callback_on_step_end": callback_on_step_end,
        }

        # 3. Stage I: all hands of all images in one batch
        seeds = [
            Seeds.of(one, len(of_image))
            for one, of_image in zip(spawn_each(generator, len(people)), people, strict=True)
        ]
        to_make = [one.without_kept(of_image) for one, of_image in zip(kept, people, strict=True)]
        stage = self._stage(HandPipeline, "hands")
        hands = generate_hands(stage, self.config, to_make, labels, seeds, hand_text, **shared)
        self._interrupt = stage.interrupt
        empty = [[line for hand in row for line in mask_warnings(hand.mask, hand.place.names)] for row in hands]
        self.warn_once(line for lines in empty for line in lines)

        # 4. The canvases
        canvases = [
            one.onto(compose_canvas(of_image, height, width, with_background=blending == "bbox"))
            for one, of_image in zip(kept, hands, strict=True)
        ]
        canvas, hand_mask, bbox_mask = map(torch.stack, zip(*canvases, strict=True))

        # 5. Stage II
        skeletons = np.stack([draw_openpose(of_image, height, width) for of_image in people])
        rgb = torch.from_numpy(skeletons).permute(0, 3, 1, 2).float() / 255
        if self.interrupt:
            images = self.convert(canvas, output_type)
        else:
            images = self._stage(OutpaintPipeline, "body")(
                None,
                torch.cat([rgb, hand_mask], dim=1),
                canvas,
                hand_mask,
                blending=blending,
                bbox_mask=bbox_mask,
                blend=blend,
                start_radius_px=start_radius_px,
                unblended_last_steps=unblended_last_steps,
                controlnet_conditioning_scale=controlnet_conditioning_scale,
                control_guidance_start=control_guidance_start,
                control_guidance_end=control_guidance_end,
                generator=[seed.outpaint for seed in seeds],
                output_type=output_type,
                **text.of(range(len(people))),
                **shared,
            ).images
        self.maybe_free_model_hooks()

        # 6. Hand everything back
        output = TwoStageOutput(
            images=images,
            hand_images=[[self.convert(hand.image[None], output_type)[0] for hand in row] for row in hands],
            hand_masks=[[hand.mask for hand in row] for row in hands],
            places=[[hand.place for hand in row] for row in hands],
            canvas=canvas,
            hand_mask=hand_mask,
            skeletons=skeletons,
            warnings=[before + after for before, after in zip(warnings, empty, strict=True)],
        )
        return output if return_dict else output.to_tuple()

    def _stage(self, kind: type[SamplingPipeline], name: str) -> Any:
        """A pipeline of one stage over the components of this one."""
        stage = kind(**{name: getattr(self, name) for name in inspect.signature(kind).parameters})
        stage.set_progress_bar_config(**{"desc": name, **getattr(self, "_progress_bar_config", {})})
        stage._outer = self
        return stage

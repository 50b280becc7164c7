"""Both stages in a row: a pose and a text in, a person with exact hands out (Fig. 2)."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.utils import BaseOutput
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from h2d.masks import BLENDS, CropBox, hand_boxes, only_hands, shrink_maps
from h2d.networks.hand_unet import HandUNet
from h2d.pipelines.canvas import PlacedHand, compose_canvas
from h2d.pipelines.checksums import write_checksums
from h2d.pipelines.hand import HandPipeline
from h2d.pipelines.outpaint import BLENDINGS, OutpaintPipeline
from h2d.pipelines.pose_checks import check_poses, mask_warnings, pose_warnings
from h2d.pipelines.sampling import (
    Callback,
    Generators,
    SamplingPipeline,
    check_choice,
    one_for_each,
    spawn,
    spawn_each,
)
from h2d.rendering import draw_openpose, finger_heatmaps
from h2d.skeleton import HAND_SLICES

logger = logging.getLogger(__name__)


@dataclass
class TwoStageOutput(BaseOutput):
    """What both stages made.

    ``images`` as ``output_type`` says; ``hand_images`` and ``hand_masks`` a list for each image with one entry for each
    of its ``boxes`` (an image as ``output_type`` says and a mask ``(1, S, S)`` in [0, 1]); ``boxes`` the crop squares
    with the hands each is for. What stage II was given: ``canvas`` ``(B, 3, S, S)`` in [-1, 1], ``hand_mask``
    ``(B, 1, S, S)`` in {0, 1} and ``skeletons`` uint8 ``(B, S, S, 3)``.
    """

    images: Any
    hand_images: list[list[Any]]
    hand_masks: list[list[Tensor]]
    boxes: list[list[tuple[CropBox, tuple[str, ...]]]]
    canvas: Tensor
    hand_mask: Tensor
    skeletons: np.ndarray


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
        image_size: side S of canvas and hand crops in pixels.
        sigma_px: of the finger heat maps, in pixels of an S x S crop.
        margin: side of a hand's crop as a multiple of its keypoint box.
        wrist: finger channels that show the wrist.
        blend: one of :data:`h2d.masks.BLENDS`, the one that the ControlNet was trained with.
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
        sigma_px: float = 8.0,
        margin: float = 1.6,
        wrist: str = "all",
        blend: str = "noised",
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
        self._said: set[str] = set()
        self.register_to_config(image_size=image_size, sigma_px=sigma_px, margin=margin, wrist=wrist, blend=blend)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        pose: np.ndarray,
        *,
        hand_prompt: str | list[str] | None = None,
        blending: str = "sequential",
        blend: str | None = None,
        start_radius_px: float = 49,
        unblended_last_steps: int = 2,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        negative_prompt: str | list[str] | None = None,
        generator: Generators = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
        return_dict: bool = True,
    ) -> TwoStageOutput | tuple[Any, ...]:
        """Generate one image for each pose.

        An image depends on its own pose, text and generator only, whatever else is in the batch. A pose without a
        hand skips stage I: the canvas is empty and stage II paints everything.

        Args:
            prompt: one text, or one for each pose.
            pose: ``(133, 3)``, or ``(B, 133, 3)``, in pixels of the S x S canvas.
            hand_prompt: texts of stage I; by default those of ``prompt``.
            blending: "sequential", "naive" or "bbox" (Table II).
            blend: overrides the pipeline's own setting.
            start_radius_px: dilation at the first step of "sequential", in pixels at image size 512.
            unblended_last_steps: steps at the end of stage II that see the full latents.
            num_inference_steps: scheduler steps of each stage.
            guidance_scale: of classifier-free guidance; 1 and less turn it off.
            negative_prompt: text of the unconditional branch of both stages, empty by default.
            generator: one, or one for each image.
            output_type: "pil", "np" or "pt" (both in [0, 1]).
            callback_on_step_end: called in both stages with the pipeline of the stage, see
                :data:`h2d.pipelines.sampling.Callback`.
            return_dict: False returns a plain tuple.

        Raises:
            ValueError: when an argument has another form.
        """
        # 1. Check inputs
        size = self.config.image_size
        poses = check_poses(pose, 1 if isinstance(prompt, str) else len(prompt), size)
        check_choice("output_type", output_type, ("pil", "np", "pt"))
        check_choice("blending", blending, BLENDINGS)
        check_choice("blend", blend := blend or self.config.blend, BLENDS)
        texts = one_for_each("prompt", prompt, len(poses))
        hand_texts = texts if hand_prompt is None else one_for_each("hand_prompt", hand_prompt, len(poses))
        shared: dict[str, Any] = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "callback_on_step_end": callback_on_step_end,
        }
        negatives = one_for_each("negative_prompt", negative_prompt or "", len(poses))
        self._warn(line for pose in poses for line in pose_warnings(pose, size, self.parts.factor))

        # 2. Stage I: all hands of all images in one batch
        seeds = [_Seeds.of(one) for one in spawn_each(generator, len(poses))]
        hands = self._generate_hands(poses, seeds, hand_texts, negatives, shared)
        self._warn(line for of_image in hands for hand in of_image for line in mask_warnings(hand.mask, hand.names))

        # 3. The canvases
        canvases = [compose_canvas(of_image, size, with_background=blending == "bbox") for of_image in hands]
        canvas, hand_mask, bbox_mask = (torch.stack(column) for column in zip(*canvases, strict=True))

        # 4. Stage II
        skeletons = np.stack([draw_openpose(one, size) for one in poses])
        rgb = torch.from_numpy(skeletons).permute(0, 3, 1, 2).float() / 255
        images = self._stage(OutpaintPipeline)(
            texts,
            torch.cat([rgb, hand_mask], dim=1),
            canvas,
            hand_mask,
            blending=blending,
            bbox_mask=bbox_mask,
            blend=blend,
            start_radius_px=start_radius_px,
            unblended_last_steps=unblended_last_steps,
            negative_prompt=negatives,
            generator=[seed.outpaint for seed in seeds],
            output_type=output_type,
            **shared,
        ).images
        self.maybe_free_model_hooks()

        # 5. Hand everything back
        output = TwoStageOutput(
            images=images,
            hand_images=[[self.convert(hand.image[None], output_type)[0] for hand in row] for row in hands],
            hand_masks=[[hand.mask for hand in row] for row in hands],
            boxes=[[(hand.box, hand.names) for hand in row] for row in hands],
            canvas=canvas,
            hand_mask=hand_mask,
            skeletons=skeletons,
        )
        return output if return_dict else output.to_tuple()

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """As diffusers does, and with a checksum of every weight file, which ``load_pipeline`` compares."""
        super().save_pretrained(save_directory, **options)
        write_checksums(Path(save_directory))

    def _warn(self, lines: Iterable[str]) -> None:
        """Say each thing once, or an evaluation would say it thousands of times."""
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                logger.warning(line)

    def _generate_hands(
        self,
        poses: np.ndarray,
        seeds: list[_Seeds],
        texts: list[str],
        negatives: list[str],
        shared: dict[str, Any],
    ) -> list[list[PlacedHand]]:
        """Stage I for every hand of every pose; a list for each pose, right hand first."""
        settings = self.config
        latent_size = settings.image_size // self.parts.factor
        hands: list[list[PlacedHand]] = [[] for _ in poses]
        places = [(row, *place) for row, pose in enumerate(poses) for place in hand_boxes(pose, settings.margin)]
        if not places:
            return hands
        maps = [
            finger_heatmaps(
                only_hands(box.to_crop(poses[row], settings.image_size), names),
                settings.image_size,
                settings.sigma_px,
                settings.wrist,
            )
            for row, box, names in places
        ]
        output = self._stage(HandPipeline)(
            [texts[row] for row, _, _ in places],
            shrink_maps(torch.from_numpy(np.stack(maps)), latent_size),
            negative_prompt=[negatives[row] for row, _, _ in places],
            generator=[seeds[row].hands[names[0]] for row, _, names in places],
            output_type="pt",
            **shared,
        )
        images = 2 * output.images.float().cpu() - 1
        for (row, box, names), image, mask in zip(places, images, output.masks.cpu(), strict=True):
            hands[row].append(PlacedHand(box, names, image, mask))
        return hands

    def _stage(self, kind: type[SamplingPipeline]) -> Any:
        """A pipeline of one stage over the components of this one."""
        stage = kind(**{name: getattr(self, name) for name in inspect.signature(kind).parameters})
        stage.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
        return stage


class _Seeds(NamedTuple):
    """The randomness of one image; neither hand changes what the other or the body gets."""

    outpaint: torch.Generator
    hands: dict[str, torch.Generator]

    @classmethod
    def of(cls, generator: torch.Generator) -> _Seeds:
        return cls(spawn(generator), {hand: spawn(generator) for hand in HAND_SLICES})

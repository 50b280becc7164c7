"""HandRefiner: a second pass over Stable Diffusion's image that paints the hands anew after a depth map of them.

The UNet of the inpainting model reads mask and masked image as well; the ControlNet, trained on hand depth, reads the
noisy latents alone. As in its code, what lies outside the mask is put back before every step, with fresh noise. Where
no hand is found, HandRefiner's script ends with an error; here the image of Stable Diffusion is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionControlNetInpaintPipeline, UNet2DConditionModel
from PIL import Image

from h2d.baselines.calls import Texts, paint, ready, run_arguments
from h2d.baselines.checkpoints import load_original_controlnet
from h2d.baselines.hand_depth import HandDepth, HandMaps
from h2d.baselines.keep_outside import KeepOutside
from h2d.baselines.places import locate, record
from h2d.baselines.presets import preset_of
from h2d.baselines.prompted import PromptedSystem
from h2d.baselines.settings import Settings
from h2d.baselines.stable_diffusion import NO_CHECKER, load_stable_diffusion
from h2d.baselines.system import Generated
from h2d.errors import CheckpointError
from h2d.networks.base import load_part, locate_unet
from h2d.pipelines.noise import spawn_each

CHANNELS = 9
"""Noisy latents, mask, latents of the masked image."""
NO_HAND = "no hand found: the image of Stable Diffusion is kept"


class HandRefiner:
    """A :class:`~h2d.baselines.system.System` over another one.

    Args:
        settings: of the second pass.
        first: Stable Diffusion. Of one generator it draws the same image as it would alone.
        pipeline: of the second pass.
        weights: of the second pass, and where they come from.
        hand_depth: finds the hands. ``close`` ends what it started.
    """

    def __init__(
        self, settings: Settings, first: PromptedSystem, pipeline: Any, weights: dict[str, Any], hand_depth: HandDepth
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.first = first
        self.pipeline = ready(pipeline, settings)
        self.weights = weights
        self.hand_depth = hand_depth

    def protocol(self) -> dict[str, Any]:
        """Everything that decides the images."""
        return self.settings.protocol() | {
            "drawn": self.hand_depth.label,
            "strength": self.settings.preset.strength,
            "weights": self.weights,
            "first_pass": self.first.protocol(),
        }

    @torch.no_grad()
    def generate(self, prompts: list[str], poses: np.ndarray, generators: list[torch.Generator]) -> list[Generated]:
        """See :class:`h2d.baselines.system.System`."""
        images = self.first.generate(prompts, poses, generators)
        seeds = spawn_each(generators, len(prompts))
        maps = self.hand_depth([one.image for one in images])
        found = [row for row, of_image in enumerate(maps) if of_image is not None]
        refined = dict(zip(found, self._refine(found, prompts, images, maps, seeds), strict=True))
        return [
            _result(before, of_image, refined.get(row))
            for row, (before, of_image) in enumerate(zip(images, maps, strict=True))
        ]

    def close(self) -> None:
        """End the process of ``hand_depth`` where it has one; the next image starts another."""
        self.hand_depth.close()

    def _refine(
        self,
        rows: list[int],
        prompts: list[str],
        images: list[Generated],
        maps: list[HandMaps | None],
        seeds: list[torch.Generator],
    ) -> list[Generated]:
        """The second pass for some of the images."""
        if not rows:
            return []
        settings, chosen = self.settings, [seeds[row] for row in rows]
        shown = [of_image for row in rows if (of_image := maps[row]) is not None]
        before = [images[row].image for row in rows]
        texts = Texts.of(self.pipeline, [prompts[row] for row in rows], settings.preset)
        keep = KeepOutside(self.pipeline, settings, before, [one.mask for one in shown], spawn_each(chosen, len(rows)))
        arguments = run_arguments(self.pipeline, settings, chosen)
        after = paint(
            self.pipeline,
            image=[Image.fromarray(one) for one in before],
            mask_image=[Image.fromarray(255 * one.mask.astype(np.uint8)) for one in shown],
            control_image=[Image.fromarray(_rgb(one.depth)) for one in shown],
            strength=1.0,
            controlnet_conditioning_scale=settings.preset.strength,
            callback_on_step_end=keep,
            **texts.arguments(),
            **arguments | {"latents": keep.start(arguments["latents"])},
        )
        return [Generated(image, {}, remarks) for image, remarks in zip(after, texts.remarks, strict=True)]


def _result(before: Generated, maps: HandMaps | None, after: Generated | None) -> Generated:
    nothing = np.zeros_like(before.image)
    depth, mask = (nothing, nothing) if maps is None else (_rgb(maps.depth), _rgb(255 * maps.mask.astype(np.uint8)))
    panels = {"stable diffusion": before.image, "hand depth": depth, "mask": mask}
    if after is None:
        return Generated(before.image, panels, (*before.remarks, NO_HAND))
    return Generated(after.image, panels, tuple(dict.fromkeys((*before.remarks, *after.remarks))))


def _rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def load_handrefiner(settings: Settings, hand_depth: HandDepth) -> HandRefiner:
    """HandRefiner over Stable Diffusion with the same kind of preset.

    Raises:
        SetupError: a part is missing.
        CheckpointError: weights are wrong.
    """
    name = "stable-diffusion"
    first = load_stable_diffusion(replace(settings, name=name, preset=preset_of(name, settings.preset_name)))
    source, part = locate_unet(locate("inpainting", settings.places))
    file = locate("handrefiner", settings.places)
    unet = load_part(UNet2DConditionModel, source, part or None)
    _check_channels(unet, source)
    shared: Sequence[str] = ("vae", "text_encoder", "tokenizer", "scheduler")
    pipeline = StableDiffusionControlNetInpaintPipeline(
        **{component: getattr(first.pipeline, component) for component in shared},
        unet=unet.requires_grad_(False).eval(),
        controlnet=load_original_controlnet(Path(file), unet.config),
        **NO_CHECKER,
    )
    weights = {"unet": next(iter(record(source, part).values())), "controlnet": next(iter(record(file).values()))}
    return HandRefiner(settings, first, pipeline, weights, hand_depth)


def _check_channels(unet: UNet2DConditionModel, source: str) -> None:
    if unet.config.in_channels != CHANNELS:
        raise CheckpointError(
            f"the UNet of {source} has {unet.config.in_channels} input channels, needed {CHANNELS}",
            "inpainting has to be Stable Diffusion v1.5 inpainting",
        )

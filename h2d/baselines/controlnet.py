"""ControlNet with the openpose checkpoints: v1.1 sees body, hands and face, v1.0 the body alone as its demo shows it.

v1.1 was trained with every combination of the three, and the paper says of ControlNet that it controls hands.
"""

from __future__ import annotations

from functools import partial

from diffusers import StableDiffusionControlNetPipeline

from h2d.baselines.places import locate, record
from h2d.baselines.prompted import PromptedSystem
from h2d.baselines.settings import Control, Settings
from h2d.baselines.skeletons import draw_openpose_v10
from h2d.baselines.stable_diffusion import NO_CHECKER, factor_of, load_base
from h2d.networks.controlnet import load_controlnet
from h2d.rendering import draw_openpose

_STRENGTH = "controlnet_conditioning_scale"
CONTROLS = {
    "controlnet": Control("OpenPose v1.1: body, hands and face", draw_openpose, _STRENGTH),
    "controlnet-v1.0": Control("OpenPose v1.0: body", partial(draw_openpose_v10, hands=False), _STRENGTH),
}
"""By the name of the system, which is also the key of its weights' place."""


def load_controlnet_system(settings: Settings) -> PromptedSystem:
    """ControlNet over Stable Diffusion, v1.1 or v1.0 as the name says.

    Raises:
        SetupError: a part is missing.
        CheckpointError: weights are wrong, or the ControlNet was made for another base.
    """
    components, weights = load_base(settings.places)
    source = locate(settings.name, settings.places)
    controlnet = load_controlnet(source, components["unet"], mask_hint=False, factor=factor_of(components["vae"]))
    pipeline = StableDiffusionControlNetPipeline(
        **components, controlnet=controlnet.requires_grad_(False).eval(), **NO_CHECKER
    )
    weights["controlnet"] = next(iter(record(source).values()))
    return PromptedSystem(settings, pipeline, weights, CONTROLS[settings.name])

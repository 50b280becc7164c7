"""The ControlNet of Section III-C: OpenPose's, with the precise hand mask as a fourth channel of its hint."""

from __future__ import annotations

from diffusers import ControlNetModel, UNet2DConditionModel

from h2d.errors import CheckpointError
from h2d.networks.base import load_part
from h2d.networks.widen import widen_conv

SKELETON_CHANNELS = 3
HINT_CHANNELS = SKELETON_CHANNELS + 1
"""Skeleton RGB in [0, 1], then the hand mask."""
_HINT_WIDTHS = (16, 32, 96, 256)
"""ControlNet's, beside Stable Diffusion's 320 channels; a narrower UNet gets no hint that is wider than itself."""


def load_controlnet(
    source: str | None, unet: UNet2DConditionModel, mask_hint: bool = True, factor: int = 8
) -> ControlNetModel:
    """A ControlNet that fits ``unet``, ready for the hint.

    Args:
        source: diffusers folder or hub id of a ControlNet (with 3 hint channels, or an h2d one with 4); None starts
            from a copy of the UNet's encoder.
        unet: the frozen UNet it will steer.
        mask_hint: whether the hint has the hand mask as fourth channel. A new channel starts at zero, so that the
            first step equals the ControlNet it came from.
        factor: image pixels per latent cell and side.

    Raises:
        CheckpointError: when the ControlNet was made for another UNet, image scale or hint.
    """
    if source is None:
        room = unet.config.block_out_channels[0]
        widths = tuple(min(width, room) for width in _HINT_WIDTHS[: factor.bit_length()])
        controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths)
    else:
        controlnet = load_part(ControlNetModel, source)
    return adapt_controlnet(controlnet, unet, mask_hint, factor, source or "the UNet's copy")


def adapt_controlnet(
    controlnet: ControlNetModel, unet: UNet2DConditionModel, mask_hint: bool, factor: int, source: str
) -> ControlNetModel:
    """Give a ControlNet the hint that is asked for, in place.

    Raises:
        CheckpointError: see :func:`load_controlnet`; ``source`` is its name there.
    """
    if mask_hint and controlnet.config.conditioning_channels == SKELETON_CHANNELS:
        add_mask_hint(controlnet)
    _check_fit(controlnet, unet, HINT_CHANNELS if mask_hint else SKELETON_CHANNELS, factor, source)
    return controlnet


def add_mask_hint(controlnet: ControlNetModel) -> None:
    """Give the hint encoder a fourth, zero-initialised input channel, in place."""
    embedding = controlnet.controlnet_cond_embedding
    embedding.conv_in = widen_conv(embedding.conv_in, HINT_CHANNELS, init="zero")
    controlnet.register_to_config(conditioning_channels=HINT_CHANNELS)


def _check_fit(controlnet: ControlNetModel, unet: UNet2DConditionModel, hint: int, factor: int, source: str) -> None:
    mine, its = controlnet.config, unet.config
    facts = {
        "hint channels": (mine.conditioning_channels, hint),
        "image pixels per latent cell": (2 ** (len(mine.conditioning_embedding_out_channels) - 1), factor),
        "block widths": (tuple(mine.block_out_channels), tuple(its.block_out_channels)),
        "text embedding width": (mine.cross_attention_dim, its.cross_attention_dim),
    }
    for what, (found, wanted) in facts.items():
        if found != wanted:
            raise CheckpointError(
                f"the ControlNet of {source} does not fit: {what} {found}, needed {wanted}",
                "choose model.controlnet and model.base of one family, and the model.mask_hint it was trained with",
            )

"""The hand generator of Section III-B: a Stable Diffusion UNet that sees the hand's pose and predicts its mask too."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from h2d.masks import shrink_maps
from h2d.networks.widen import widen_conv

HEATMAP_CHANNELS = 10
CONDITION_CHANNELS = HEATMAP_CHANNELS + 1
"""K of Section III-B: a heat map for each finger of both hands, then the hand mask."""
HEAD_LAYERS = 4


@dataclass
class HandUNetOutput(BaseOutput):
    """Eq. 7: the predicted noise ``(B, 4, h, w)`` and the predicted hand mask ``(B, 1, H, W)``, not clamped."""

    noise: Tensor
    mask: Tensor


class HandUNet(ModelMixin, ConfigMixin):
    """A UNet with 15 input channels ``[x_t 4 | finger heat maps 10 | hand mask 1]`` and a mask head.

    Args:
        unet_config: configuration of the UNet2DConditionModel, with the widened ``in_channels``.
        mask_channels: channels of the mask head between the UNet's last features and the mask.
        pool: average pool after the head. Its four doubling layers give 16 mask pixels per latent cell and side, which
            is twice the image for a VAE that reduces by 8.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self, unet_config: dict[str, Any], mask_channels: tuple[int, ...] = (128, 64, 32), pool: int = 2
    ) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel.from_config(unet_config)
        # The UNet ends in the features that its last convolution would see; both outputs are read from them.
        self.conv_out = self.unet.conv_out
        self.unet.conv_out = nn.Identity()
        self.mask_head = _mask_head((self.unet.config.block_out_channels[0], *mask_channels, 1), pool)

    @classmethod
    def from_unet(
        cls,
        unet: UNet2DConditionModel,
        factor: int,
        init: str = "random",
        mask_channels: tuple[int, ...] | None = None,
    ) -> HandUNet:
        """Widen a trained UNet; it is not changed.

        Args:
            unet: Stable Diffusion's, with 4 input channels.
            factor: image pixels per latent cell and side.
            init: start of the new input channels, "random" as in the paper or "zero".
            mask_channels: of the head; by default the paper-size 128, 64, 32 in proportion to the UNet's width.

        Raises:
            ValueError: when ``factor`` does not divide 16 or ``init`` is another word.
        """
        if 2**HEAD_LAYERS % factor:
            raise ValueError(f"factor must divide {2**HEAD_LAYERS}, got {factor}")
        width = unet.config.block_out_channels[0]
        channels = mask_channels or tuple(max(8, width * full // 320) for full in (128, 64, 32))
        config = {key: value for key, value in unet.config.items() if not key.startswith("_")}
        config["in_channels"] = unet.config.in_channels + CONDITION_CHANNELS
        hand_unet = cls(config, channels, 2**HEAD_LAYERS // factor)
        nn.Module.to(hand_unet, unet.device, unet.dtype)  # diffusers' own warns about nothing when it sees a dtype

        weights = unet.state_dict()
        for name in ("conv_in.weight", "conv_in.bias", "conv_out.weight", "conv_out.bias"):
            del weights[name]
        hand_unet.unet.conv_in = widen_conv(unet.conv_in, config["in_channels"], init)
        hand_unet.conv_out.load_state_dict(unet.conv_out.state_dict())
        unexpected = hand_unet.unet.load_state_dict(weights, strict=False).unexpected_keys
        assert not unexpected, unexpected
        return hand_unet

    def forward(
        self, sample: Tensor, timestep: Tensor | int, encoder_hidden_states: Tensor, condition: Tensor
    ) -> HandUNetOutput:
        """Predict noise and mask (Eq. 7).

        Args:
            sample: noisy latents ``(B, 4, h, w)``.
            timestep: one for all, or ``(B,)``.
            encoder_hidden_states: text embeddings ``(B, L, D)``.
            condition: ``(B, 11, h, w)`` from :func:`hand_condition`.
        """
        features = self.unet(torch.cat([sample, condition], dim=1), timestep, encoder_hidden_states).sample
        return HandUNetOutput(noise=self.conv_out(features), mask=self.mask_head(features))


def hand_condition(heatmaps: Tensor, hand_mask: Tensor | None = None) -> Tensor:
    """Condition c_p ``(B, 11, h, w)`` of Section III-B.

    Args:
        heatmaps: ``(B, 10, h, w)`` in [0, 1], right thumb..little then left thumb..little.
        hand_mask: ``(B, 1, S, S)`` in {0, 1}, reduced to latent size; None is the zero mask of mask-free inference.
    """
    if hand_mask is None:
        mask = torch.zeros_like(heatmaps[:, :1])
    else:
        mask = shrink_maps(hand_mask, heatmaps.shape[-1]).to(heatmaps)
    return torch.cat([heatmaps, mask], dim=1)


def _mask_head(channels: tuple[int, ...], pool: int) -> nn.Sequential:
    """Four 2x2 transposed convolutions of stride 2 with SiLU between them (Section III-B), then the pool."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.ConvTranspose2d(before, after, kernel_size=2, stride=2), nn.SiLU()]
    return nn.Sequential(*layers[:-1], nn.AvgPool2d(pool))

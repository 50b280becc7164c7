"""The hand generator of Section III-B: a Stable Diffusion UNet that sees the hand's pose and predicts its mask too."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from h2d.errors import ConfigError
from h2d.masks import shrink_maps
from h2d.networks.widen import widen_conv

HEATMAP_CHANNELS = 10
CONDITION_CHANNELS = HEATMAP_CHANNELS + 1
"""K of Section III-B: a heat map for each finger of both hands, then the hand mask."""
HEAD_LAYERS = 4
"""Transposed convolutions of the mask head (Section III-B)."""
ATTACH = ("last", "up1")
"""Features that the mask head can read: those before the last convolution, or those of the second up block."""


class HandUNetOutput(NamedTuple):
    """Eq. 7: the predicted noise ``(B, 4, h, w)`` (velocity, where the base predicts that) and the predicted hand mask
    ``(B, 1, H, W)``, not clamped.

    ``features`` are those that the mask head reads; sampling needs the mask of the last step only.
    """

    noise: Tensor
    mask: Tensor | None
    features: Tensor | None


class HandUNet(ModelMixin, ConfigMixin):
    """A UNet with 15 input channels ``[x_t 4 | finger heat maps 10 | hand mask 1]`` and a mask head.

    Args:
        unet_config: configuration of the UNet2DConditionModel, with the widened ``in_channels``.
        mask_channels: channels of the mask head between the features and the mask.
        pool: average pool after the head, which brings its output to the size of the image.
        attach: the features that the head reads, see :data:`ATTACH`.
        layers: of the head's four layers, how many double the size; 4, or 3 with a last one that does not.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        unet_config: dict[str, Any],
        mask_channels: tuple[int, ...] = (128, 64, 32),
        pool: int = 2,
        attach: str = "last",
        layers: int = HEAD_LAYERS,
    ) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel.from_config(unet_config)
        # The UNet ends in the features that its last convolution would see; the noise is read from them, and by
        # default the mask too.
        self.conv_out = self.unet.conv_out
        self.unet.conv_out = nn.Identity()
        width = _feature_width(self.unet, attach)
        self.mask_head = _mask_head((width, *mask_channels, 1), layers, pool)
        self._inner: Tensor | None = None
        self._reads_inner = attach == "up1"
        if self._reads_inner:
            self.unet.up_blocks[1].register_forward_hook(self._keep)

    @classmethod
    def from_unet(
        cls,
        unet: UNet2DConditionModel,
        factor: int,
        init: str = "random",
        mask_channels: tuple[int, ...] | None = None,
        attach: str = "last",
        layers: int = HEAD_LAYERS,
    ) -> HandUNet:
        """Widen a trained UNet. The two share the memory of the weights that both have: train only one of them.

        Args:
            unet: Stable Diffusion's, with 4 input channels.
            factor: image pixels per latent cell and side.
            init: start of the new input channels, "random" as in the paper or "zero".
            mask_channels: of the head; by default the paper-size 128, 64, 32 in proportion to the UNet's width.
            attach: see :data:`ATTACH`.
            layers: doubling layers of the head, 4 or 3.

        Raises:
            ValueError: when ``factor``, ``init``, ``attach`` or ``layers`` is none of the choices.
            ConfigError: when the head ends below the size of the image.
        """
        pool = _pool(unet, factor, attach, layers)
        width = unet.config.block_out_channels[0]
        channels = mask_channels or tuple(max(8, width * full // 320) for full in (128, 64, 32))
        config = {key: value for key, value in unet.config.items() if not key.startswith("_")}
        config["in_channels"] = unet.config.in_channels + CONDITION_CHANNELS
        with torch.device("meta"):  # weights that are replaced at once need neither memory nor random numbers
            hand_unet = cls(config, channels, pool, attach, layers)
        head = (_feature_width(unet, attach), *channels, 1)
        hand_unet.mask_head = _mask_head(head, layers, pool, device=unet.device, dtype=unet.dtype)

        wide = widen_conv(unet.conv_in, config["in_channels"], init).state_dict()
        inner = unet.state_dict() | {f"conv_in.{name}": weight for name, weight in wide.items()}
        last = {name: inner.pop(f"conv_out.{name}") for name in unet.conv_out.state_dict()}
        hand_unet.unet.load_state_dict(inner, assign=True)
        hand_unet.conv_out.load_state_dict(last, assign=True)
        return hand_unet

    def set_attention_slice(self, slice_size: str | int | list[int] = "auto") -> None:
        """What ``enable_attention_slicing`` of a pipeline asks of its networks."""
        self.unet.set_attention_slice(slice_size)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | int,
        encoder_hidden_states: Tensor,
        condition: Tensor,
        with_mask: bool = True,
    ) -> HandUNetOutput:
        """Predict noise and mask (Eq. 7).

        Args:
            sample: noisy latents ``(B, 4, h, w)``.
            timestep: one for all, or ``(B,)``.
            encoder_hidden_states: text embeddings ``(B, L, D)``.
            condition: ``(B, 11, h, w)`` from :func:`hand_condition`.
            with_mask: run the mask head; else the mask is None.
        """
        features = self.unet(torch.cat([sample, condition], dim=1), timestep, encoder_hidden_states).sample
        seen, self._inner = self._inner if self._reads_inner else features, None
        mask = self.mask_head(seen) if with_mask else None
        return HandUNetOutput(noise=self.conv_out(features), mask=mask, features=seen)

    def _keep(self, block: nn.Module, inputs: Any, output: Tensor) -> None:
        self._inner = output


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


def _mask_head(channels: tuple[int, ...], layers: int, pool: int, **place: Any) -> nn.Sequential:
    """Transposed convolutions of stride 2 with SiLU between them (Section III-B), then the pool.

    Where fewer ``layers`` double the size than there are, the last ones keep it. ``place`` is a device and a dtype.
    """
    head: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(channels)):
        kernel, stride, padding = (2, 2, 0) if number < layers else (3, 1, 1)
        head += [nn.ConvTranspose2d(before, after, kernel, stride, padding, **place), nn.SiLU()]
    head.pop()
    return nn.Sequential(*head, *([nn.AvgPool2d(pool)] if pool > 1 else []))


def _feature_width(unet: UNet2DConditionModel, attach: str) -> int:
    """Channels of the features that the mask head reads."""
    widths = unet.config.block_out_channels
    if attach not in ATTACH or len(widths) < 2:
        raise ValueError(f"attach must be one of {ATTACH}, the second for two or more up blocks, got {attach!r}")
    return widths[0] if attach == "last" else widths[::-1][1]


def _pool(unet: UNet2DConditionModel, factor: int, attach: str, layers: int) -> int:
    """The average pool that brings the head's output to the size of the image."""
    if layers not in (HEAD_LAYERS - 1, HEAD_LAYERS):
        raise ValueError(f"layers must be {HEAD_LAYERS} or {HEAD_LAYERS - 1}, got {layers}")
    # Every up block but the last one ends by doubling the size.
    halvings = 0 if attach == "last" else max(0, len(unet.config.block_out_channels) - 3)
    pool, rest = divmod(2**layers, factor * 2**halvings)
    if rest and not pool:
        raise ConfigError(
            f"a mask head with {layers} doubling layers on features of {2**halvings * factor} pixels a cell ends below "
            "the size of the image",
            "use model.mask_layers=4 or model.mask_attach=last",
        )
    if rest:
        raise ValueError(f"factor must divide {2**HEAD_LAYERS}, got {factor}")
    return pool

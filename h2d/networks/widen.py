"""More input channels for a trained convolution."""

from __future__ import annotations

import torch
from torch import nn


def widen_conv(conv: nn.Conv2d, in_channels: int, init: str) -> nn.Conv2d:
    """A convolution like ``conv`` that takes ``in_channels``; the first ones keep their trained weights.

    Args:
        conv: the trained convolution.
        in_channels: more than it has.
        init: of the new channels, "random" as a new convolution starts (Section III-B) or "zero" to be ignored.

    Raises:
        ValueError: when ``init`` is another word.
    """
    if init not in ("random", "zero"):
        raise ValueError(f"init must be 'random' or 'zero', got {init!r}")
    wide = nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    if init == "zero":
        nn.init.zeros_(wide.weight)
    with torch.no_grad():
        wide.weight[:, : conv.in_channels] = conv.weight
        if conv.bias is not None and wide.bias is not None:
            wide.bias.copy_(conv.bias)
    return wide

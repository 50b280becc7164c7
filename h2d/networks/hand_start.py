"""A trained hand UNet as the start of another training of stage I."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from h2d.errors import CheckpointError
from h2d.networks.hand_unet import HandUNet
from h2d.networks.loading import load_part

HEAD = {"attach": "model.mask_attach", "layers": "model.mask_layers"}
"""Facts of the mask head by the key that decides them."""
UNET = (
    *("in_channels", "block_out_channels", "layers_per_block", "down_block_types", "up_block_types"),
    *("cross_attention_dim", "attention_head_dim", "norm_num_groups"),
)
"""Facts of the UNet inside that the base decides."""


def load_hand_unet(source: str, new: HandUNet) -> HandUNet:
    """The hand UNet of an exported pipeline, in float32.

    Args:
        source: its folder (``PIPELINE/hand_unet``) or a hub id.
        new: what training would start from without it, made from the base.

    Raises:
        CheckpointError: it was made for another base or with another mask head, or is damaged.
        SetupError: a hub id cannot be fetched.
    """
    hand_unet = load_part(HandUNet, source, exact=True)
    check_hand_unet(source, hand_unet.config, new)
    return hand_unet


def check_hand_unet(source: str, config: Mapping[str, Any], new: HandUNet) -> None:
    """Refuse the configuration of a hand UNet that is built otherwise than ``new``.

    Raises:
        CheckpointError: naming the first difference.
    """
    for fact, key in HEAD.items():
        if config.get(fact) != new.config[fact]:
            raise CheckpointError(
                f"model.hand_unet={source} was trained with {key}={config.get(fact)}, not {new.config[fact]}",
                f"add {key}={config.get(fact)}",
            )
    found, wanted = config.get("unet_config") or {}, new.config["unet_config"]
    for fact in UNET:
        one, other = (_plain(values.get(fact)) for values in (found, wanted))
        if one != other:
            raise CheckpointError(
                f"model.hand_unet={source} is made for another base: its {fact} is {one}, that of model.base {other}",
                "choose model.hand_unet and model.base of one pipeline",
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value

"""Names of weights in the checkpoints of the systems' own code, written down from diffusers' names.

Latent diffusion numbers its blocks through: with two residual blocks a level, the one at position j of level i is
``input_blocks.{3 i + j + 1}`` on the way down and ``output_blocks.{3 i + j}`` on the way up.
"""

from __future__ import annotations

import re

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "controlnet_mid_block": "middle_block_out.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
}


def latent_diffusion_name(name: str) -> str:
    """The name of a UNet's or ControlNet's weight in latent diffusion's code."""
    layer, _, kind = name.rpartition(".")
    if layer in ENDS:
        return f"{ENDS[layer]}.{kind}"
    if found := re.fullmatch(r"controlnet_down_blocks\.(\d+)", layer):
        return f"zero_convs.{found[1]}.0.{kind}"
    if found := re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d+)", layer):
        return f"input_hint_block.{2 * int(found[1]) + 2}.{kind}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", layer):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{RESNET.get(found[3], found[3])}.{kind}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", layer)
    assert found is not None, name
    level, position, rest = int(found[2]), int(found[4]), found[5]
    if found[3] == "downsamplers":
        return f"input_blocks.{3 * level + 3}.0.op.{kind}"
    if found[3] == "upsamplers":
        return f"output_blocks.{3 * level + 2}.{1 if level == 0 else 2}.conv.{kind}"
    number = 3 * level + position
    block = f"input_blocks.{number + 1}" if found[1] == "down" else f"output_blocks.{number}"
    if found[3] == "resnets":
        return f"{block}.0.{RESNET[rest]}.{kind}"
    return f"{block}.1.{rest}.{kind}"


def adapter_name(name: str) -> str:
    """The name of a T2IAdapter's weight in T2I-Adapter's code, whose blocks are numbered through."""
    name = name.removeprefix("adapter.")
    if found := re.fullmatch(r"body\.(\d)\.resnets\.(\d)\.(.*)", name):
        return f"body.{2 * int(found[1]) + int(found[2])}.{found[3]}"
    if found := re.fullmatch(r"body\.(\d)\.(in_conv\..*)", name):
        return f"body.{2 * int(found[1])}.{found[2]}"
    return name

import re

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from h2d.errors import CheckpointError, SetupError
from h2d.networks import base

LAYERS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def original_name(name: str, unet: UNet2DConditionModel) -> str:
    """What Stable Diffusion's own code calls a weight of diffusers' UNet: blocks are counted through."""
    stem, _, kind = name.rpartition(".")
    if stem in LAYERS:
        return f"{LAYERS[stem]}.{kind}"
    per_block = unet.config.layers_per_block + 1
    if match := re.match(r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)\.(.*)", name):
        block, what, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
        if what == "downsamplers":
            return f"input_blocks.{(block + 1) * per_block}.0.op.{rest.removeprefix('conv.')}"
        place = f"input_blocks.{block * per_block + layer + 1}"
    elif match := re.match(r"up_blocks\.(\d+)\.(resnets|attentions|upsamplers)\.(\d+)\.(.*)", name):
        block, what, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
        place = f"output_blocks.{block * per_block + layer}"
        if what == "upsamplers":
            with_attention = "CrossAttn" in unet.config.up_block_types[block]
            return f"output_blocks.{(block + 1) * per_block - 1}.{1 + with_attention}.{rest}"
    else:
        match = re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name)
        what, layer, rest = match[1], int(match[2]), match[3]
        place = f"middle_block.{2 * layer if what == 'resnets' else 1}"
        return f"{place}.{renamed(rest)}" if what == "resnets" else f"{place}.{rest}"
    return f"{place}.0.{renamed(rest)}" if what == "resnets" else f"{place}.1.{rest}"


def renamed(rest: str) -> str:
    part, _, kind = rest.partition(".")
    return f"{RESNET[part]}.{kind}"


@pytest.fixture(scope="module")
def own() -> UNet2DConditionModel:
    """The shipped base's UNet with other weights."""
    unet = base.load_unet("tiny")
    generator = torch.Generator().manual_seed(3)
    for parameter in unet.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return unet


def in_original_layout(unet: UNet2DConditionModel, prefix: str = "model.diffusion_model.") -> dict[str, torch.Tensor]:
    return {prefix + original_name(name, unet): weight.clone() for name, weight in unet.state_dict().items()}


def write(weights: dict[str, torch.Tensor], path) -> str:
    save_file(weights, path)
    return str(path)


@pytest.mark.parametrize("layout", ["whole checkpoint", "original UNet alone", "diffusers", "diffusers under unet."])
def test_weights_of_every_layout_arrive_to_the_bit(own, layout, tmp_path):
    weights = {
        "whole checkpoint": {
            **in_original_layout(own),
            "first_stage_model.decoder.conv_in.weight": torch.zeros(2, 2),
            "cond_stage_model.transformer.text_model.final_layer_norm.bias": torch.full((4,), float("nan")),
            "model_ema.decay": torch.zeros(()),
        },
        "original UNet alone": in_original_layout(own, ""),
        "diffusers": dict(own.state_dict()),
        "diffusers under unet.": {f"unet.{name}": weight for name, weight in own.state_dict().items()},
    }[layout]
    loaded = base.load_unet("tiny", unet=write(weights, tmp_path / "model.safetensors"))
    assert loaded.state_dict().keys() == own.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in own.state_dict().items())
    assert all(weight.requires_grad for weight in loaded.parameters())
    assert not loaded.training


def test_half_precision_becomes_float32(own, tmp_path):
    weights = {name: weight.half() for name, weight in in_original_layout(own).items()}
    loaded = base.load_unet("tiny", unet=write(weights, tmp_path / "model.safetensors"))
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.conv_in.weight, own.conv_in.weight.half().float())


@pytest.mark.parametrize("first", ["original", "diffusers"])
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("missing", r"lacks 1 weights, the first is conv_in\.bias"),
        ("shape", r"conv_in\.bias is \(7,\), needed \(64,\)"),
        ("nan", r"NaN or infinite values in conv_in\.bias"),
    ],
)
def test_a_wrong_weight_is_refused(own, first, damage, complaint, tmp_path):
    weights = in_original_layout(own) if first == "original" else dict(own.state_dict())
    name = "model.diffusion_model.input_blocks.0.0.bias" if first == "original" else "conv_in.bias"
    if damage == "missing":
        del weights[name]
    else:
        weights[name] = torch.zeros(7) if damage == "shape" else torch.full((64,), float("nan"))
    with pytest.raises(CheckpointError, match=complaint):
        base.load_unet("tiny", unet=write(weights, tmp_path / "model.safetensors"))


def test_files_that_are_none_are_refused(own, tmp_path):
    with pytest.raises(CheckpointError, match="holds no UNet"):
        base.load_unet("tiny", unet=write({"lora.up": torch.zeros(2)}, tmp_path / "lora.safetensors"))
    (tmp_path / "text.safetensors").write_text("no weights at all")
    with pytest.raises(CheckpointError, match="cannot be read"):
        base.load_unet("tiny", unet=str(tmp_path / "text.safetensors"))
    torch.save(own.state_dict(), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"is no \.safetensors file"):
        base.load_unet("tiny", unet=str(tmp_path / "model.ckpt"))
    with pytest.raises(SetupError, match="does not exist"):
        base.load_unet("tiny", unet=str(tmp_path / "nothing.safetensors"))


def test_a_folder_in_place_of_the_bases_unet(own, tmp_path):
    own.save_pretrained(tmp_path / "model" / "unet")
    for name in ("model", "model/unet"):
        assert torch.equal(base.load_unet("tiny", unet=str(tmp_path / name)).conv_in.weight, own.conv_in.weight)

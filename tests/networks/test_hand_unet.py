import copy
import json

import pytest
import torch
from diffusers import UNet2DConditionModel

from h2d.errors import ConfigError
from h2d.networks import sd15
from h2d.networks.hand_unet import HandUNet, hand_condition


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


def tiny_inputs(size: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents, text = torch.randn(2, 4, size, size, generator=generator), torch.randn(2, 7, 32, generator=generator)
    return latents, torch.tensor([3, 700]), text


def count(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_golden_sizes_of_stable_diffusion_15():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sd15.UNET)
        hand_unet = HandUNet.from_unet(unet, factor=8)
    assert count(hand_unet.unet, hand_unet.conv_out) == 859_552_644
    assert count(hand_unet.mask_head) == 205_153
    assert count(hand_unet) == 859_552_644 + 205_153
    shapes = [tuple(layer.weight.shape) for layer in hand_unet.mask_head if hasattr(layer, "weight")]
    assert shapes == [(320, 128, 2, 2), (128, 64, 2, 2), (64, 32, 2, 2), (32, 1, 2, 2)]


@torch.no_grad()
@pytest.mark.parametrize("init", ["random", "zero"])
def test_zero_condition_predicts_the_noise_of_the_original(init):
    unet = tiny_unet()
    hand_unet = HandUNet.from_unet(unet, factor=4, init=init).eval()
    inputs = tiny_inputs()
    output = hand_unet(*inputs, torch.zeros(2, 11, 16, 16))
    assert torch.equal(output.noise, unet(*inputs).sample)
    assert unet.config.in_channels == unet.conv_in.in_channels == 4, "the original is not changed"


@torch.no_grad()
def test_condition_matters_at_random_start_and_not_at_zero_start():
    inputs, condition = tiny_inputs(), torch.rand(2, 11, 16, 16)
    for init, same in (("zero", True), ("random", False)):
        hand_unet = HandUNet.from_unet(tiny_unet(), factor=4, init=init).eval()
        with_it = hand_unet(*inputs, condition).noise
        without = hand_unet(*inputs, torch.zeros_like(condition)).noise
        assert torch.equal(with_it, without) == same


@torch.no_grad()
@pytest.mark.parametrize("attach", ["last", "up1"])
def test_the_mask_head_leaves_the_noise_alone(attach):
    unet, inputs = tiny_unet(), tiny_inputs()
    hand_unet = HandUNet.from_unet(unet, factor=4, init="zero", attach=attach).eval()
    assert torch.equal(hand_unet(*inputs, torch.rand(2, 11, 16, 16)).noise, unet(*inputs).sample)


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_mask_has_the_size_of_the_image(factor):
    hand_unet = HandUNet.from_unet(tiny_unet(), factor)
    output = hand_unet(*tiny_inputs(), torch.zeros(2, 11, 16, 16))
    assert output.mask.shape == (2, 1, 16 * factor, 16 * factor)
    output.mask.sum().backward()
    assert hand_unet.unet.conv_in.weight.grad is not None


# --- where the mask head sits ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("attach", "layers", "pools"), [("last", 4, 1), ("last", 3, 0), ("up1", 4, 0)], ids=["pool", "three", "up1"]
)
def test_every_mask_head_of_stable_diffusion_ends_at_the_size_of_the_image(attach, layers, pools):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sd15.UNET)
        hand_unet = HandUNet.from_unet(unet, factor=8, attach=attach, layers=layers)
        output = hand_unet(torch.zeros(1, 4, 64, 64), 1, torch.zeros(1, 77, 768), torch.zeros(1, 11, 64, 64))
    assert output.mask.shape == (1, 1, 512, 512)
    assert sum(isinstance(layer, torch.nn.AvgPool2d) for layer in hand_unet.mask_head) == pools
    convolutions = [layer for layer in hand_unet.mask_head if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert [layer.stride[0] for layer in convolutions] == [2] * layers + [1] * (4 - layers)
    assert convolutions[0].in_channels == {"last": 320, "up1": 1280}[attach]


@pytest.mark.parametrize("attach", ["last", "up1"])
@pytest.mark.parametrize("layers", [3, 4])
@pytest.mark.parametrize("factor", [4, 8])
def test_every_mask_head_of_a_tiny_unet_ends_there_too(attach, layers, factor):
    hand_unet = HandUNet.from_unet(tiny_unet(), factor, attach=attach, layers=layers)
    output = hand_unet(*tiny_inputs(), torch.zeros(2, 11, 16, 16))
    assert output.mask.shape == (2, 1, 16 * factor, 16 * factor)


def test_a_mask_head_that_ends_below_the_image_is_refused():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sd15.UNET)
    with pytest.raises(ConfigError, match="3 doubling layers"):
        HandUNet.from_unet(unet, factor=8, attach="up1", layers=3)


@torch.no_grad()
def test_up1_reads_the_second_up_block_and_nothing_after_it():
    hand_unet = HandUNet.from_unet(tiny_unet(), factor=4, attach="up1").eval()
    inputs, condition = tiny_inputs(), torch.rand(2, 11, 16, 16)
    seen = []
    hand_unet.unet.up_blocks[1].register_forward_hook(lambda block, inputs, output: seen.append(output))
    before = hand_unet(*inputs, condition)
    torch.testing.assert_close(hand_unet.mask_head(seen[0]), before.mask)
    hand_unet.unet.conv_norm_out.weight.zero_()
    after = hand_unet(*inputs, condition)
    assert torch.equal(after.mask, before.mask)
    assert not torch.equal(after.noise, before.noise)


@torch.no_grad()
def test_a_copy_with_up1_reads_its_own_features(tmp_path):
    hand_unet = HandUNet.from_unet(tiny_unet(), factor=4, attach="up1", layers=3).eval()
    inputs, condition = tiny_inputs(), torch.rand(2, 11, 16, 16)
    before = hand_unet(*inputs, condition).mask
    copied = copy.deepcopy(hand_unet)
    hand_unet.save_pretrained(tmp_path)
    loaded = HandUNet.from_pretrained(tmp_path).eval()
    for parameter in hand_unet.parameters():
        parameter.zero_()
    assert torch.equal(copied(*inputs, condition).mask, before)
    assert torch.equal(loaded(*inputs, condition).mask, before)


@torch.no_grad()
def test_a_folder_from_before_there_was_a_choice_loads(tmp_path):
    hand_unet = HandUNet.from_unet(tiny_unet(), factor=4).eval()
    hand_unet.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config.pop("attach"), config.pop("layers")) == ("last", 4)
    (tmp_path / "config.json").write_text(json.dumps(config))
    inputs, condition = tiny_inputs(), torch.rand(2, 11, 16, 16)
    loaded = HandUNet.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(*inputs, condition).mask, hand_unet(*inputs, condition).mask)


def test_compiles_into_one_graph():
    hand_unet = HandUNet.from_unet(tiny_unet(), factor=4, attach="up1")
    inputs = (*tiny_inputs(), torch.rand(2, 11, 16, 16))
    compiled = torch.compile(hand_unet, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs).mask, hand_unet(*inputs).mask)


def test_shares_the_memory_of_the_weights_it_takes_over():
    unet = tiny_unet()
    hand_unet = HandUNet.from_unet(unet, factor=4)
    theirs = {weight.data_ptr() for weight in unet.parameters()}
    new = [name for name, weight in hand_unet.named_parameters() if weight.data_ptr() not in theirs]
    assert [name for name in new if "mask_head" not in name] == ["unet.conv_in.weight", "unet.conv_in.bias"]
    unet.requires_grad_(False)
    assert all(weight.requires_grad for weight in hand_unet.parameters())


@torch.no_grad()
def test_mask_is_the_average_of_the_sixteenfold_map():
    hand_unet = HandUNet.from_unet(tiny_unet(), factor=4).eval()
    seen = []
    hand_unet.mask_head[-2].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    mask = hand_unet(*tiny_inputs(), torch.rand(2, 11, 16, 16)).mask
    assert seen[0].shape == (2, 1, 256, 256)
    torch.testing.assert_close(mask, torch.nn.functional.avg_pool2d(seen[0], 4))


def test_wrong_words_are_refused():
    with pytest.raises(ValueError, match="factor"):
        HandUNet.from_unet(tiny_unet(), factor=3)
    with pytest.raises(ValueError, match="init"):
        HandUNet.from_unet(tiny_unet(), factor=4, init="ones")
    with pytest.raises(ValueError, match="attach"):
        HandUNet.from_unet(tiny_unet(), factor=4, attach="mid")
    with pytest.raises(ValueError, match="layers"):
        HandUNet.from_unet(tiny_unet(), factor=4, layers=5)


@torch.no_grad()
def test_saved_and_loaded_is_equal_to_the_bit(tmp_path):
    hand_unet = HandUNet.from_unet(tiny_unet(), factor=4).eval()
    hand_unet.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = HandUNet.from_pretrained(tmp_path).eval()
    inputs, condition = tiny_inputs(), torch.rand(2, 11, 16, 16)
    for mine, its in zip(hand_unet(*inputs, condition), loaded(*inputs, condition), strict=True):
        assert torch.equal(mine, its)


def test_trains_under_bf16_autocast_with_gradient_checkpointing():
    hand_unet = HandUNet.from_unet(tiny_unet(), factor=4).train()
    hand_unet.enable_gradient_checkpointing()
    assert hand_unet.is_gradient_checkpointing
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = hand_unet(*tiny_inputs(), torch.rand(2, 11, 16, 16))
        loss = output.noise.float().square().mean() + output.mask.float().square().mean()
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in hand_unet.parameters())


def test_condition_puts_the_mask_last_and_zeros_where_there_is_none():
    heatmaps = torch.rand(2, 10, 8, 8)
    free = hand_condition(heatmaps)
    assert torch.equal(free[:, :10], heatmaps)
    assert (free[:, 10] == 0).all()
    guided = hand_condition(heatmaps, torch.ones(2, 1, 64, 64))
    assert (guided[:, 10] == 1).all()

import copy

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from h2d.errors import CheckpointError
from h2d.networks import sd15
from h2d.networks.controlnet import adapt_controlnet, add_mask_hint, load_controlnet


def tiny_unet(width: int = 32) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


def lively(controlnet: ControlNetModel) -> ControlNetModel:
    """A fresh ControlNet answers zero to everything; this one does not."""
    generator = torch.Generator().manual_seed(2)
    for parameter in controlnet.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return controlnet.eval()


def test_golden_size_of_stable_diffusion_15():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sd15.UNET)
        copied = load_controlnet(None, unet)
        openpose = adapt_controlnet(ControlNetModel(**sd15.CONTROLNET), unet, True, 8, "openpose")
    for controlnet in (copied, openpose):
        assert sum(parameter.numel() for parameter in controlnet.parameters()) == 361_279_264


@torch.no_grad()
def test_the_new_hint_channel_changes_nothing_at_first():
    before = lively(ControlNetModel.from_unet(tiny_unet(), conditioning_embedding_out_channels=(16, 32, 96)))
    after = copy.deepcopy(before)
    add_mask_hint(after)
    hint = torch.rand(2, 4, 64, 64)
    inputs = (torch.randn(2, 4, 16, 16), torch.tensor([3, 700]), torch.randn(2, 7, 32))
    old, new = before(*inputs, hint[:, :3]), after(*inputs, hint)
    assert torch.equal(old.mid_block_res_sample, new.mid_block_res_sample)
    assert all(map(torch.equal, old.down_block_res_samples, new.down_block_res_samples))
    assert old.mid_block_res_sample.abs().max() > 0


@pytest.mark.parametrize("factor", [4, 8])
def test_hint_of_image_size_meets_the_latents(factor):
    controlnet = load_controlnet(None, tiny_unet(), factor=factor)
    controlnet(torch.randn(1, 4, 16, 16), 1, torch.randn(1, 7, 32), torch.rand(1, 4, 16 * factor, 16 * factor))


def test_loads_a_three_channel_folder_and_its_own(tmp_path):
    unet = tiny_unet()
    original = lively(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 96)))
    original.save_pretrained(tmp_path / "openpose")
    widened = load_controlnet(str(tmp_path / "openpose"), unet, factor=4)
    assert widened.config.conditioning_channels == 4
    weight = widened.controlnet_cond_embedding.conv_in.weight
    assert torch.equal(weight[:, :3], original.controlnet_cond_embedding.conv_in.weight)
    assert (weight[:, 3] == 0).all()

    widened.save_pretrained(tmp_path / "ours")
    again = load_controlnet(str(tmp_path / "ours"), unet, factor=4)
    assert all(map(torch.equal, again.state_dict().values(), widened.state_dict().values()))
    plain = load_controlnet(str(tmp_path / "openpose"), unet, mask_hint=False, factor=4)
    assert plain.config.conditioning_channels == 3


def test_a_controlnet_of_another_family_is_refused(tmp_path):
    unet = tiny_unet()
    load_controlnet(None, unet, factor=4).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="block widths"):
        load_controlnet(str(tmp_path), tiny_unet(width=16), factor=4)
    with pytest.raises(CheckpointError, match="image pixels per latent cell 4, needed 8"):
        load_controlnet(str(tmp_path), unet, factor=8)
    with pytest.raises(CheckpointError, match="hint channels 4, needed 3"):
        load_controlnet(str(tmp_path), unet, mask_hint=False, factor=4)

import json

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from h2d.networks import base, scratch, sd15


def test_golden_sizes():
    """Published sizes of Stable Diffusion 1.5 and of its OpenPose ControlNet."""
    with torch.device("meta"):
        networks = {
            859_520_964: UNet2DConditionModel(**sd15.UNET),
            83_653_863: AutoencoderKL(**sd15.VAE),
            123_060_480: CLIPTextModel(CLIPTextConfig(**sd15.TEXT_ENCODER)),
            361_279_120: ControlNetModel(**sd15.CONTROLNET),
        }
    for size, network in networks.items():
        assert sum(parameter.numel() for parameter in network.parameters()) == size


def test_the_written_folder_is_a_base(tmp_path, monkeypatch):
    narrow = {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 32, "attention_head_dim": 4}
    monkeypatch.setattr(sd15, "UNET", sd15.UNET | narrow)
    monkeypatch.setattr(sd15, "CONTROLNET", sd15.CONTROLNET | narrow)
    monkeypatch.setattr(sd15, "VAE", sd15.VAE | {"block_out_channels": (32, 32, 32, 32)})
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setattr(sd15, "TEXT_ENCODER", sd15.TEXT_ENCODER | text)
    sd15.write_base(tmp_path)
    parts, unet = base.load_frozen(str(tmp_path)), base.load_unet(str(tmp_path))
    assert parts.factor == 8
    assert unet.dtype == torch.float32
    assert parts.encode_text(["A hand, close up."]).shape == (1, 77, 32)
    assert base.load_scheduler(str(tmp_path)).config.num_train_timesteps == 1000
    assert base.load_part(ControlNetModel, str(tmp_path), "controlnet").config.conditioning_channels == 3
    assert json.loads((tmp_path / "unet" / "config.json").read_text())["in_channels"] == 4


def test_the_schedule_is_that_of_stable_diffusion():
    """The first and last cumulative products, by the formula of its paper's code."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    expected = (1 - betas).cumprod(0)
    found = scratch.noise_schedule().alphas_cumprod.double()
    torch.testing.assert_close(found[[0, 499, 999]], expected[[0, 499, 999]], rtol=1e-4, atol=0)

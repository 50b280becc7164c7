"""What comes out of the files of the real formats."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline, T2IAdapter, UNet2DConditionModel
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from h2d.baselines import load_system
from h2d.baselines.checkpoints import load_original_controlnet, load_original_unet
from h2d.baselines.humansd import HumanSDPipeline
from h2d.baselines.t2i_adapter import load_adapter
from h2d.files import sha256_of
from h2d.networks import sd15

from .conftest import LDM_UNET, SIZE, adapter, in_original_names
from .original_names import adapter_name, latent_diffusion_name


def same(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, its = network.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def test_humansd_comes_out_bit_by_bit(load, networks):
    system = load("humansd")
    assert isinstance(system.pipeline, HumanSDPipeline)
    assert same(system.pipeline.unet, networks["humansd"])
    assert system.pipeline.unet.config.in_channels == 8
    assert system.pipeline.scheduler.config.prediction_type == "epsilon"


def test_humansd_in_safetensors_is_the_same(places, networks, tmp_path):
    weights = {name: weight.contiguous() for name, weight in in_original_names(networks["humansd"], LDM_UNET).items()}
    save_file(weights, tmp_path / "humansd.safetensors")
    assert same(load_original_unet(tmp_path / "humansd.safetensors", networks["humansd"].config), networks["humansd"])


@pytest.mark.parametrize("file", ["inpaint_depth_control.ckpt", "pruned.safetensors", "bare.safetensors"])
def test_the_controlnet_of_handrefiner_comes_out(file, places, networks, tmp_path):
    path = Path(places["handrefiner"]).with_name(file)
    if file.startswith("bare"):
        weights = load_file(path.with_name("pruned.safetensors"))
        path = tmp_path / file
        save_file({name.removeprefix("control_model."): weight for name, weight in weights.items()}, path)
    found = load_original_controlnet(path, networks["inpainting"].config)
    expected = networks["handrefiner"]
    assert found.config.in_channels == 4
    assert found.dtype == torch.float32
    if file.endswith("ckpt"):
        assert same(found, expected)
    for name, weight in found.state_dict().items():
        assert torch.equal(weight.half(), expected.state_dict()[name].half()), name


def test_the_adapter_comes_out_of_all_its_forms(places, networks, tmp_path):
    expected = networks["t2i-adapter"]
    assert same(load_adapter(places["t2i-adapter"]), expected)
    expected.save_pretrained(tmp_path / "new")
    assert same(load_adapter(str(tmp_path / "new")), expected)
    expected.save_pretrained(tmp_path / "old", safe_serialization=False)
    assert [path.suffix for path in (tmp_path / "old").iterdir() if path.suffix != ".json"] == [".bin"]
    assert same(load_adapter(str(tmp_path / "old")), expected)


def test_parts_of_diffusers_folders_come_out_bit_by_bit(load, networks):
    system = load("controlnet")
    assert same(system.pipeline.controlnet, networks["controlnet"])
    assert same(system.pipeline.unet, networks["base"])
    assert same(load("controlnet-v1.0").pipeline.controlnet, networks["controlnet-v1.0"])


def test_the_loaded_base_paints_as_diffusers_own(quick, poses, seeds):
    """The stock pipeline, given the same noise and words as text."""
    system = quick("stable-diffusion", "uniform")
    seed = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=seeds(7)[0])))
    stock = StableDiffusionPipeline(**system.pipeline.components, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    preset = system.settings.preset
    expected = stock(
        "a woman waves",
        negative_prompt=preset.negative,
        latents=torch.randn(1, 4, 8, 8, generator=seed),
        num_inference_steps=preset.steps,
        guidance_scale=preset.guidance,
        height=SIZE,
        width=SIZE,
        output_type="np",
    ).images[0]
    found = system.generate(["a woman waves"], poses[:1], seeds(7))[0].image
    assert abs(found - 255 * expected).max() <= 1


def test_a_file_in_the_cache_of_the_hub_is_found(places, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder, commit = tmp_path / "models--TencentARC--T2I-Adapter", "0123456789abcdef0123456789abcdef01234567"
    file = folder / "snapshots" / commit / "models" / "t2iadapter_openpose_sd14v1.pth"
    file.parent.mkdir(parents=True)
    shutil.copy(places["t2i-adapter"], file)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    system = load_system("t2i-adapter", "native", SIZE, places={"base": places["base"]})
    assert system.protocol()["weights"]["adapter"] == {"from": str(file), "sha256": sha256_of(file)}


def test_names_of_the_adapter_are_those_of_its_authors():
    """The layout of their file: eight blocks numbered through, a convolution where the width changes."""
    names = {adapter_name(name) for name in adapter().state_dict()}
    assert {"conv_in.weight", "body.0.block1.weight", "body.7.block2.bias", "body.2.in_conv.weight"} <= names
    assert {name for name in names if "in_conv" in name} == {"body.2.in_conv.weight", "body.2.in_conv.bias"}


# --- sizes of the real networks --------------------------------------------------------------------------------------
WIDE = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}


def test_golden_sizes():
    with torch.device("meta"):
        networks = {
            859_520_964: UNet2DConditionModel(**sd15.UNET),
            859_535_364: UNet2DConditionModel(**sd15.UNET | {"in_channels": 9}),
            865_922_244: UNet2DConditionModel(**sd15.UNET | WIDE | {"in_channels": 8}),
            77_369_280: T2IAdapter(channels=[320, 640, 1280, 1280], num_res_blocks=2, adapter_type="full_adapter"),
        }
    for size, network in networks.items():
        assert sum(parameter.numel() for parameter in network.parameters()) == size
    assert networks[865_922_244].conv_in.weight.shape == (320, 8, 3, 3)


def test_real_checkpoints_have_these_shapes(monkeypatch):
    """Full size, without memory: from the original names to HandRefiner's ControlNet, HumanSD and the adapter."""
    with torch.device("meta"):
        control = ControlNetModel(**sd15.CONTROLNET)
        humansd = UNet2DConditionModel(**sd15.UNET | WIDE | {"in_channels": 8})
        original = {latent_diffusion_name(name): weight for name, weight in control.state_dict().items()}
        monkeypatch.setattr("h2d.baselines.checkpoints.read_tensors", lambda path: original)
        monkeypatch.setattr("h2d.networks.loading.check_weights", lambda part, where, missing: missing or None)
        monkeypatch.setattr("torch.Tensor.to", lambda tensor, *given, **options: tensor)
        inpainting = sd15.UNET | {"in_channels": 9}
        found = load_original_controlnet(Path("real.ckpt"), inpainting)
        assert sum(parameter.numel() for parameter in found.parameters()) == 361_279_120
        original = in_original_names(humansd, LDM_UNET)
        found = load_original_unet(Path("real.ckpt"), sd15.UNET | WIDE | {"in_channels": 8})
        assert sum(parameter.numel() for parameter in found.parameters()) == 865_922_244

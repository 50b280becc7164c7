import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from h2d.errors import CheckpointError, SetupError
from h2d.networks import base
from h2d.networks.frozen import FrozenParts


def byte_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer with one token for each byte: needs no vocabulary of anybody."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A complete tiny base on the disk."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=8,
        layers_per_block=1,
    ).save_pretrained(folder / "vae")
    UNet2DConditionModel(
        block_out_channels=(32,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    ).save_pretrained(folder / "unet")
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=16,
            bos_token_id=512,
            eos_token_id=513,
        )
    ).save_pretrained(folder / "text_encoder")
    byte_tokenizer(folder / "words").save_pretrained(folder / "tokenizer")
    DDPMScheduler(beta_schedule="scaled_linear", clip_sample=True).save_pretrained(folder / "scheduler")
    return folder


@pytest.fixture(scope="module")
def frozen(folder) -> FrozenParts:
    return base.load_frozen(str(folder))


# --- resolving ------------------------------------------------------------------------------------------------------
def test_names_resolve_to_folders_or_stay_hub_ids(folder):
    assert base.resolve_base(str(folder)) == str(folder)
    assert base.resolve_base("someone/some-model") == "someone/some-model"


def test_a_hub_id_out_of_reach_is_named():
    with pytest.raises(SetupError, match="cannot fetch someone/some-model") as caught:
        base.load_frozen("someone/some-model")
    assert "internet" in caught.value.hint


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/base", "~/no-such-base", "a/b/c"])
def test_missing_folder_is_named(name):
    with pytest.raises(SetupError, match=name.replace(".", r"\.")):
        base.resolve_base(name)


def test_folder_without_a_unet_is_refused(tmp_path):
    with pytest.raises(SetupError, match="no unet/"):
        base.resolve_base(str(tmp_path))


def test_missing_tiny_base_says_how_to_make_it(monkeypatch, tmp_path):
    monkeypatch.setitem(base.SHIPPED, "tiny", tmp_path / "tiny-base")
    with pytest.raises(SetupError, match="tiny-base") as caught:
        base.resolve_base("tiny")
    assert caught.value.hint == "run `make tiny-base`"


# --- loading --------------------------------------------------------------------------------------------------------
def damaged(folder: Path, tmp_path: Path, change) -> str:
    """A base whose UNet weights went through ``change``."""
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    change(weights)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_bytes((folder / "unet" / "config.json").read_bytes())
    save_file(weights, tmp_path / "unet" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    return str(tmp_path)


def test_missing_weight_is_refused(folder, tmp_path):
    name = damaged(folder, tmp_path, lambda weights: weights.pop("conv_in.bias"))
    with pytest.raises(CheckpointError, match=r"unet lacks 1 weights, the first is conv_in\.bias"):
        base.load_unet(name)


def test_nan_weight_is_refused(folder, tmp_path):
    name = damaged(folder, tmp_path, lambda weights: weights["conv_out.bias"].fill_(float("nan")))
    with pytest.raises(CheckpointError, match=r"NaN or infinite values in conv_out\.bias"):
        base.load_unet(name)


def test_wrong_shape_is_refused(folder, tmp_path):
    name = damaged(folder, tmp_path, lambda weights: weights.update({"conv_in.bias": torch.zeros(7)}))
    with pytest.raises(CheckpointError, match="unet"):
        base.load_unet(name)


def test_truncated_file_is_refused(folder, tmp_path):
    name = damaged(folder, tmp_path, lambda weights: None)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="unet"):
        base.load_unet(name)


def test_pickled_weights_are_never_read(folder, tmp_path):
    name = damaged(folder, tmp_path, lambda weights: None)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(base.load_unet(str(folder)).state_dict(), tmp_path / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="unet"):
        base.load_unet(name)


def test_half_precision_files_become_float32(folder, tmp_path):
    def halve(weights: dict[str, torch.Tensor]) -> None:
        weights.update({key: value.half() for key, value in weights.items()})

    assert base.load_unet(damaged(folder, tmp_path, halve)).dtype == torch.float32


def test_folder_saved_as_fp16_variant(folder, tmp_path):
    base.load_unet(str(folder)).half().save_pretrained(tmp_path / "unet", variant="fp16")
    assert base.load_unet(str(tmp_path)).dtype == torch.float32


def test_vae_with_the_attention_names_of_old_files(folder, tmp_path):
    """Stable Diffusion 1.5's own VAE file is of this kind."""
    shutil.copytree(folder / "vae", tmp_path / "vae")
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for key, value in load_file(file).items():
        for new, old in names.items():
            key = key.replace(new, old) if "mid_block.attentions" in key else key
        weights[key] = value
    assert any("query" in key for key in weights)
    save_file(weights, file, metadata={"format": "pt"})
    old, new = (base.load_part(AutoencoderKL, str(where), "vae").state_dict() for where in (tmp_path, folder))
    assert all(torch.equal(old[key], new[key]) for key in new)


def test_missing_tokenizer_is_named(folder, tmp_path):
    name = damaged(folder, tmp_path, lambda weights: None)
    with pytest.raises(SetupError, match="tokenizer"):
        base.load_tokenizer(name)


def test_sampler_never_clips_latents(folder):
    sampler = base.make_sampler(base.load_scheduler(str(folder)))
    assert isinstance(sampler, DDIMScheduler)
    assert sampler.config.clip_sample is False
    assert sampler.config.beta_schedule == "scaled_linear"


# --- frozen parts ---------------------------------------------------------------------------------------------------
def test_frozen_parts_are_frozen_and_shared_by_copies(frozen):
    assert not isinstance(frozen, torch.nn.Module)
    assert copy.deepcopy({"parts": frozen})["parts"] is frozen
    assert not any(parameter.requires_grad for parameter in frozen.vae.parameters())
    assert not frozen.text_encoder.training


def test_encode_and_decode_shapes_and_ranges(frozen):
    assert frozen.factor == 4
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    latents = frozen.encode_image(image, generator=torch.Generator().manual_seed(0))
    assert latents.shape == (2, 4, 16, 16)
    assert torch.equal(latents, frozen.encode_image(image, generator=torch.Generator().manual_seed(0)))
    mode = frozen.encode_image(image, sample=False)
    assert torch.equal(mode, frozen.encode_image(image, sample=False))
    posterior = frozen.vae.encode(image).latent_dist
    torch.testing.assert_close(mode, posterior.mean * frozen.vae.config.scaling_factor)
    decoded = frozen.decode(latents * 100)
    assert decoded.shape == image.shape
    assert decoded.dtype == torch.float32
    assert decoded.abs().max() <= 1


def test_captions_longer_than_the_tokenizer_allows_are_cut(frozen):
    text = frozen.encode_text(["a hand", "a very long caption " * 20, ""])
    assert text.shape == (3, 16, 32)
    assert torch.isfinite(text).all()
    assert torch.equal(frozen.encode_text(["a hand"])[0], text[0])


def test_frozen_parts_move(folder):
    parts = base.load_frozen(str(folder)).to("cpu", torch.bfloat16)
    assert parts.vae.dtype == parts.text_encoder.dtype == torch.bfloat16
    assert parts.decode(parts.encode_image(torch.zeros(1, 3, 32, 32))).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parts_in_half_precision_answer_in_float32_and_keep_their_digest(folder, frozen, dtype):
    parts = base.load_frozen(str(folder)).to(dtype=dtype)
    assert parts.vae.dtype == parts.text_encoder.dtype == dtype
    assert parts.vae_digest == frozen.vae_digest
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    for mine, exact in (
        (parts.moments(image), frozen.moments(image)),
        (parts.encode_image(image, sample=False), frozen.encode_image(image, sample=False)),
        (parts.encode_text(["a hand"]), frozen.encode_text(["a hand"])),
        (parts.decode(torch.ones(2, 4, 8, 8)), frozen.decode(torch.ones(2, 4, 8, 8))),
    ):
        assert mine.dtype == exact.dtype == torch.float32
        assert not torch.equal(mine, exact)
        torch.testing.assert_close(mine, exact, rtol=0.1, atol=0.1)
    latents = parts.encode_image(image, generators)
    assert latents.dtype == torch.float32
    alone = parts.encode_image(image[1:], torch.Generator().manual_seed(2))
    torch.testing.assert_close(latents[1:], alone, rtol=0.02, atol=0.02)


def test_the_digest_follows_the_weights(folder, frozen):
    other = base.load_frozen(str(folder))
    assert other.vae_digest == frozen.vae_digest
    other.vae.decoder.conv_in.bias.data[0] += 1
    assert other.vae_digest != frozen.vae_digest

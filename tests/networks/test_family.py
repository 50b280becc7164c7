import json
import shutil

import pytest

from h2d.errors import CheckpointError, SetupError
from h2d.networks import base, hub
from h2d.networks.family import check_family


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped base, to be spoilt."""
    shutil.copytree(base.TINY_BASE, tmp_path / "base")
    return tmp_path / "base"


def change(folder, file, **settings):
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | settings))


def test_the_shipped_base_is_of_the_family():
    check_family(str(base.TINY_BASE))


@pytest.mark.parametrize(
    ("file", "settings", "complaint"),
    [
        ("unet/config.json", {"addition_embed_type": "text_time"}, r"unet: .*text_time.*Stable Diffusion XL"),
        ("unet/config.json", {"in_channels": 9}, r"unet: in_channels is 9, needed 4 .*inpainting"),
        ("unet/config.json", {"cross_attention_dim": 1024}, r"text_encoder: hidden_size is 96, needed 1024"),
        ("unet/config.json", {"_class_name": "UNet2DModel"}, "unet: _class_name is UNet2DModel"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, r"scheduler: .*sample, needed eps"),
        ("vae/config.json", {"latent_channels": 16}, "vae: latent_channels is 16, needed 4"),
    ],
    ids=["sdxl", "inpainting", "text width", "other class", "predicts the sample", "other vae"],
)
def test_another_family_is_refused_before_weights_are_read(folder, file, settings, complaint, monkeypatch):
    change(folder, file, **settings)
    monkeypatch.setattr(base, "load_part", lambda *arguments: pytest.fail("weights were read"))
    with pytest.raises(CheckpointError, match=complaint) as caught:
        base.load_frozen(str(folder))
    assert "Stable Diffusion 1.5" in caught.value.hint


@pytest.mark.parametrize("part", ["vae", "text_encoder", "scheduler"])
def test_a_missing_part_is_named(folder, part):
    shutil.rmtree(folder / part)
    with pytest.raises(SetupError, match=f"no {part}/"):
        base.load_frozen(str(folder))


def test_missing_weights_are_named(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(SetupError, match=r"no weights in .*unet"):
        base.load_frozen(str(folder))


@pytest.mark.parametrize("text", ["{", "[1, 2]", "\xff"])
def test_a_configuration_that_is_none_is_named(folder, text):
    (folder / "vae" / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"vae/config\.json is no configuration"):
        base.load_frozen(str(folder))


def test_a_unet_alone_is_checked_too(folder, tmp_path):
    change(folder, "unet/config.json", in_channels=9)
    with pytest.raises(CheckpointError, match="inpainting"):
        base.load_unet(str(folder))
    with pytest.raises(CheckpointError, match="inpainting"):
        base.load_unet("tiny", unet=str(folder / "unet"))
    change(folder, "unet/config.json", in_channels=4, cross_attention_dim=32)
    with pytest.raises(CheckpointError, match="cross_attention_dim is 32, needed 96"):
        base.load_unet("tiny", unet=str(folder / "unet"))


def test_the_hub_is_asked_once_and_for_a_moment(monkeypatch):
    asked = []

    def answer(url, timeout):
        asked.append(timeout)
        raise OSError("name or service not known")

    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "get_hf_file_metadata", answer)
    with pytest.raises(SetupError, match=r"cannot fetch someone/some-model/unet.*not known"):
        base.load_frozen("someone/some-model")
    assert asked == [hub.SECONDS_TO_ANSWER]

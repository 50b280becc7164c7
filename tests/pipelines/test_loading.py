import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from h2d.errors import CheckpointError, SetupError
from h2d.pipelines import loading
from h2d.pipelines.two_stage import TwoStagePipeline


@pytest.fixture(scope="module")
def saved(components, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    settings = {"image_size": 64, "hand_size": 32, "sigma_px": 1.0, "margin": 1.5, "wrist": "thumb", "blend": "clean"}
    made = TwoStagePipeline(**components, **settings)
    made.save_pretrained(folder)
    return folder


@pytest.fixture
def broken(saved, tmp_path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(saved, tmp_path / "broken"))


def test_only_safetensors_are_written(saved):
    assert not list(saved.rglob("*.bin"))
    assert len(list(saved.rglob("*.safetensors"))) == 5


def test_round_trip_is_equal_to_the_bit(components, saved, pose):
    loaded = TwoStagePipeline.from_pretrained(saved)
    for name, part in components.items():
        if isinstance(part, torch.nn.Module):
            mine, its = part.state_dict(), getattr(loaded, name).state_dict()
            assert mine.keys() == its.keys()
            assert all(torch.equal(mine[key], its[key]) for key in mine)
    settings = {key: loaded.config[key] for key in ("image_size", "hand_size", "sigma_px", "margin", "wrist", "blend")}
    assert list(settings.values()) == [64, 32, 1.0, 1.5, "thumb", "clean"]

    original = TwoStagePipeline(**components, **settings)
    images = []
    for each in (original, loaded):
        each.set_progress_bar_config(disable=True)
        output = each("a", pose, num_inference_steps=2, generator=torch.Generator().manual_seed(0))
        images.append(np.asarray(output.images[0]))
    np.testing.assert_array_equal(*images)


def test_folders_from_before_hands_had_a_size_of_their_own_have_that_of_the_canvas(broken):
    path = broken / "model_index.json"
    settings = json.loads(path.read_text())
    del settings["hand_size"]
    path.write_text(json.dumps(settings))
    (broken / "SHA256SUMS").unlink()
    assert TwoStagePipeline.from_pretrained(broken).config["hand_size"] == 64


def test_networks_can_be_loaded_in_half_precision(saved):
    assert TwoStagePipeline.from_pretrained(saved, torch_dtype=torch.bfloat16).hand_unet.dtype == torch.bfloat16


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"no pipeline folder .*nowhere") as caught:
        TwoStagePipeline.from_pretrained(tmp_path / "nowhere")
    assert "h2d export" in caught.value.hint


def test_the_shipped_model_has_a_name(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "TINY_MODEL", tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"no pipeline folder .*absent") as caught:
        TwoStagePipeline.find_folder("tiny-model")
    assert caught.value.hint == "train it with `make tiny-model`"
    monkeypatch.setattr(loading, "TINY_MODEL", saved)
    assert TwoStagePipeline.find_folder("tiny-model") == saved


def test_folder_that_is_no_pipeline(tmp_path):
    with pytest.raises(CheckpointError, match=r"is no pipeline: it has no model_index\.json"):
        TwoStagePipeline.from_pretrained(tmp_path)


def test_pipeline_of_another_kind(broken):
    index = json.loads((broken / "model_index.json").read_text())
    (broken / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(CheckpointError, match="holds a StableDiffusionPipeline, not a TwoStagePipeline"):
        TwoStagePipeline.from_pretrained(broken)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_damaged_index(broken, text):
    (broken / "model_index.json").write_text(text)
    with pytest.raises(CheckpointError, match="model_index"):
        TwoStagePipeline.from_pretrained(broken)


@pytest.mark.parametrize("part", ["hand_unet", "unet", "controlnet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_part_is_named(broken, part):
    shutil.rmtree(broken / part)
    with pytest.raises(CheckpointError, match=part):
        TwoStagePipeline.from_pretrained(broken)


def damage(folder: Path, change) -> None:
    file = folder / "hand_unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})
    (folder / "SHA256SUMS").unlink()


def test_missing_weight_is_refused(broken):
    damage(broken, lambda weights: weights.pop("mask_head.0.weight"))
    with pytest.raises(CheckpointError, match=r"hand_unet lacks 1 weights, the first is mask_head\.0\.weight"):
        TwoStagePipeline.from_pretrained(broken)


def test_the_newer_name_of_the_option_and_words(saved):
    assert TwoStagePipeline.from_pretrained(saved, dtype=torch.bfloat16).unet.dtype == torch.bfloat16
    assert TwoStagePipeline.from_pretrained(saved, torch_dtype="float16").unet.dtype == torch.float16
    for wrong in ("half a byte", torch.int8):
        with pytest.raises(ValueError, match=r"torch_dtype must be such as torch\.bfloat16"):
            TwoStagePipeline.from_pretrained(saved, torch_dtype=wrong)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("model_index.json", {"image_size": "x"}),
        ("model_index.json", {"image_size": 62}),
        ("model_index.json", {"hand_size": 30}),
        ("model_index.json", {"margin": 0}),
        ("model_index.json", {"wrist": "foo"}),
        ("vae/config.json", {"block_out_channels": []}),
        ("tokenizer/tokenizer_config.json", {"model_max_length": "x"}),
        ("text_encoder/config.json", {"hidden_size": 5}),
    ],
)
def test_settings_that_cannot_be_are_refused_without_a_record_too(broken, file, change):
    path = broken / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match="is not what was saved"):
        TwoStagePipeline.from_pretrained(broken)
    (broken / "SHA256SUMS").unlink()
    with pytest.raises(CheckpointError):
        TwoStagePipeline.from_pretrained(broken)


def test_unknown_weight_is_refused(broken):
    damage(broken, lambda weights: weights.update(extra=torch.zeros(2)))
    with pytest.raises(CheckpointError, match=r"hand_unet holds 1 weights too many, the first is extra"):
        TwoStagePipeline.from_pretrained(broken)


def test_weight_of_another_shape_is_refused(broken):
    damage(broken, lambda weights: weights.update({"conv_out.bias": torch.zeros(5)}))
    with pytest.raises(CheckpointError, match="hand_unet"):
        TwoStagePipeline.from_pretrained(broken)


def test_components_may_be_given_instead(saved, components):
    loaded = TwoStagePipeline.from_pretrained(saved, vae=components["vae"], scheduler=components["scheduler"])
    assert loaded.vae is components["vae"]
    assert loaded.scheduler is components["scheduler"]


def test_a_hub_id_is_fetched_with_the_options_of_diffusers(saved, monkeypatch):
    asked = {}

    def fetch(name, **options):
        asked.update(options, name=name)
        return str(saved)

    monkeypatch.setattr("h2d.pipelines.loading.snapshot_download", fetch)
    monkeypatch.setattr("h2d.pipelines.loading.require_hub", lambda name, file: None)
    TwoStagePipeline.from_pretrained("someone/hands", revision="v2")
    assert (asked["name"], asked["revision"]) == ("someone/hands", "v2")
    assert "*.bin" not in asked["allow_patterns"]


def test_a_hub_id_that_is_not_here_is_named_without_internet():
    with pytest.raises(SetupError, match=r"no pipeline folder someone/nothing, and cannot fetch someone/nothing"):
        TwoStagePipeline.from_pretrained("someone/nothing")


def test_nan_weight_is_refused(broken):
    damage(broken, lambda weights: weights["conv_out.bias"].fill_(float("inf")))
    with pytest.raises(CheckpointError, match=r"hand_unet holds NaN or infinite values in conv_out\.bias"):
        TwoStagePipeline.from_pretrained(broken)


def test_flipped_bit_is_refused(broken):
    file = broken / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"unet/diffusion_pytorch_model\.safetensors is not what was saved"):
        TwoStagePipeline.from_pretrained(broken)


def test_truncated_file_is_refused(broken):
    file = broken / "controlnet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="controlnet"):
        TwoStagePipeline.from_pretrained(broken)

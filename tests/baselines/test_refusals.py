"""What is said about files that are wrong or not there."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from diffusers import T2IAdapter
from huggingface_hub import constants

from h2d.baselines import SYSTEMS, load_system, missing
from h2d.baselines.checkpoints import build, load_original_controlnet, load_original_unet, read_tensors
from h2d.baselines.depth_capsules import CapsuleDepth
from h2d.baselines.depth_files import FolderDepth
from h2d.doctor import report
from h2d.errors import CheckpointError, ConfigError, SetupError

from .conftest import LDM_UNET, SIZE, adapter, controlnet, in_original_names


# --- what is wrong, in one error -------------------------------------------------------------------------------------
def broken(weights: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    name = sorted(weights)[0]
    if how == "missing":
        return {key: weight for key, weight in weights.items() if key != name}
    if how == "not finite":
        return weights | {name: torch.full_like(weights[name], torch.nan)}
    return weights | {name: torch.zeros(3)}


@pytest.mark.parametrize(
    ("how", "message"),
    [("missing", "lacks 1 weights"), ("not finite", "NaN or infinite"), ("another shape", r"is \(3,\), needed")],
)
@pytest.mark.parametrize("which", ["humansd", "handrefiner", "t2i-adapter"])
def test_wrong_weights_are_named(which, how, message, places, tmp_path):
    weights = read_tensors(Path(places[which]))
    ours = {"humansd": "model.diffusion_model.", "handrefiner": "control_model.", "t2i-adapter": ""}[which]
    weights = {name: weight for name, weight in weights.items() if name.startswith(ours)}
    path = tmp_path / "bad.ckpt"
    torch.save({"state_dict": broken(weights, how)}, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_system(which, "native", SIZE, places=places | {which: str(path), "hand-depth-command": "true"})
    assert str(path) in caught.value.message


def test_unknown_weights_are_refused():
    weights = dict(adapter().state_dict()) | {"adapter.more": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"adapter\.more is \(2,\), which the network lacks"):
        build(T2IAdapter, adapter().config, lambda _: weights, "here")


def test_a_checkpoint_with_objects_is_refused_and_its_way_out_works(places, networks, tmp_path):
    """The conversion of the hint, word for word, on such a file."""
    old = tmp_path / "OLD.ckpt"
    torch.save({"state_dict": in_original_names(networks["humansd"], LDM_UNET), "hparams": Namespace(lr=1)}, old)
    with pytest.raises(CheckpointError, match="more than tensors") as caught:
        load_system("humansd", "native", SIZE, places=places | {"humansd": str(old)})
    lines = [line.strip() for line in caught.value.hint.splitlines() if line.startswith("  ")]
    code = (
        "\n".join(lines).replace("PREFIX", LDM_UNET).replace("OLD", f"{tmp_path}/OLD").replace("NEW", f"{tmp_path}/NEW")
    )
    exec(code)
    found = load_original_unet(tmp_path / "NEW.safetensors", networks["humansd"].config)
    torch.testing.assert_close(found.state_dict(), dict(networks["humansd"].state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half an archive"])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_files_of_another_kind_are_refused(content, suffix, places, tmp_path):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="file"):
        load_system("humansd", "native", SIZE, places=places | {"humansd": str(path)})


def test_an_ordinary_checkpoint_is_no_humansd(places, networks, tmp_path):
    path = tmp_path / "v2-1_512-ema-pruned.ckpt"
    torch.save({"state_dict": in_original_names(networks["sd21-base"], LDM_UNET)}, path)
    with pytest.raises(CheckpointError, match=r"conv_in\.weight is \(32, 4, 3, 3\), needed \(32, 8, 3, 3\)"):
        load_system("humansd", "native", SIZE, places=places | {"humansd": str(path)})


def test_a_file_without_the_network_is_refused(places):
    with pytest.raises(CheckpointError, match="no weight whose name starts with control_model"):
        load_original_controlnet(Path(places["humansd"]), {})


def test_networks_that_do_not_fit_are_refused(places, tmp_path):
    controlnet(conditioning_channels=4).save_pretrained(tmp_path / "four")
    with pytest.raises(CheckpointError, match="hint channels 4, needed 3"):
        load_system("controlnet", "native", SIZE, places=places | {"controlnet": str(tmp_path / "four")})
    T2IAdapter(channels=[32, 64], num_res_blocks=2, adapter_type="full_adapter").save_pretrained(tmp_path / "two")
    with pytest.raises(CheckpointError, match="does not fit: widths"):
        load_system("t2i-adapter", "native", SIZE, places=places | {"t2i-adapter": str(tmp_path / "two")})
    wrong = {"inpainting": places["base"], "hand-depth-command": "true"}
    with pytest.raises(CheckpointError, match="has 4 input channels, needed 9"):
        load_system("handrefiner", "native", SIZE, places=places | wrong)


def test_the_larger_sd_2_is_not_what_humansd_was_made_from(places, tmp_path):
    shutil.copytree(places["sd21-base"], tmp_path / "v")
    path = tmp_path / "v" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    with pytest.raises(CheckpointError, match="prediction_type is v_prediction") as caught:
        load_system("humansd", "native", SIZE, places=places | {"sd21-base": str(tmp_path / "v")})
    assert "sd21-base" in caught.value.hint


# --- what is not there -----------------------------------------------------------------------------------------------
@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path))


@pytest.mark.usefixtures("nothing_here")
@pytest.mark.parametrize(
    ("name", "named"),
    {
        "stable-diffusion": ["stable-diffusion-v1-5/stable-diffusion-v1-5"],
        "controlnet": ["stable-diffusion-v1-5/stable-diffusion-v1-5", "lllyasviel/control_v11p_sd15_openpose"],
        "controlnet-v1.0": ["stable-diffusion-v1-5/stable-diffusion-v1-5", "lllyasviel/sd-controlnet-openpose"],
        "t2i-adapter": ["stable-diffusion-v1-5/stable-diffusion-v1-5", "t2iadapter_openpose_sd14v1.pth"],
        "t2i-adapter-body": ["stable-diffusion-v1-5/stable-diffusion-v1-5", "t2iadapter_openpose_sd14v1.pth"],
        "humansd": ["stable-diffusion-2-1-base", "humansd-v1.ckpt"],
        "handrefiner": [
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "stable-diffusion-v1-5/stable-diffusion-inpainting",
            "control_sd15_inpaint_depth_hand_fp16.safetensors",
            "hand-depth",
        ],
    }.items(),
)
def test_all_that_is_missing_is_named_at_once(name, named):
    lines = missing(name)
    assert len(lines) == len(named)
    assert all(word in line for word, line in zip(named, lines, strict=True))
    with pytest.raises(SetupError) as caught:
        load_system(name, "native")
    assert caught.value.message.splitlines()[1:] == lines


def test_nothing_is_missing_when_the_places_are_given(places):
    for name in SYSTEMS:
        assert missing(name, places | {"hand-depth-command": "true"}) == []
    assert missing("handrefiner", places | {"hand-depth": "mediapipe"}) == []


@pytest.mark.usefixtures("nothing_here")
def test_the_way_without_licences_is_shown_for_what_it_is():
    for text in (missing("handrefiner")[-1], report()):
        (line,) = (line for line in text.splitlines() if "hand-depth-command" in line)
        assert "hand-depth=mediapipe" in line
        assert "an approximation, not HandRefiner's mesh" in line


def test_mediapipe_is_a_word_and_a_folder_only_as_a_path(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mediapipe").mkdir()
    for given, kind in (("mediapipe", CapsuleDepth), ("./mediapipe", FolderDepth)):
        system = load_system("handrefiner", "native", SIZE, places=places | {"hand-depth": given})
        assert type(system.hand_depth) is kind
        assert system.protocol()["drawn"] == system.hand_depth.label
        system.close()


def test_a_place_that_does_not_exist_is_named(places, tmp_path):
    for key in ("base", "controlnet"):
        with pytest.raises(SetupError, match=f"\\({key}\\) is not at {tmp_path}/none"):
            load_system("controlnet", "native", places=places | {key: f"{tmp_path}/none"})


def test_settings_that_cannot_be_are_refused(places):
    with pytest.raises(ConfigError, match="size=100"):
        load_system("controlnet", "native", 100, places=places)
    with pytest.raises(ConfigError, match="'contrlnet' is no place"):
        load_system("controlnet", "native", places={"contrlnet": "x"})
    for given in ("/", "mediapipe"):
        with pytest.raises(ConfigError, match="both hand-depth and hand-depth-command"):
            load_system("handrefiner", "native", places=places | {"hand-depth": given, "hand-depth-command": "true"})
    with pytest.raises(SetupError, match="hand-depth=/no-such-folder does not exist") as caught:
        load_system("handrefiner", "native", places=places | {"hand-depth": "/no-such-folder"})
    assert "or mediapipe" in caught.value.hint

"""Every system, for real, on small weights in its own files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from h2d.baselines import SYSTEMS, load_system
from h2d.baselines.presets import NEGATIVE
from h2d.files import sha256_of

from .conftest import SIZE, OneHand

TEXTS = ["a woman waves", "a man holds a cup"]
SHOWN = [name for name in SYSTEMS if name not in ("stable-diffusion", "handrefiner")]


@pytest.mark.parametrize("preset", ["native", "uniform"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_an_image_depends_on_its_own_prompt_pose_and_generator_only(name, preset, quick, poses, seeds):
    both = quick(name, preset).generate(TEXTS, poses, seeds(3, 4))
    alone = quick(name, preset).generate(TEXTS[1:], poses[1:], seeds(4))[0]
    for one in both:
        assert (one.image.shape, one.image.dtype) == ((SIZE, SIZE, 3), np.uint8)
        assert one.image.std() > 5
    assert (both[0].image != both[1].image).any()
    assert np.abs(both[1].image.astype(int) - alone.image).max() <= 1
    assert both[1].panels.keys() == alone.panels.keys()


@pytest.mark.parametrize("name", SHOWN)
def test_the_pose_decides_where_there_is_one(name, quick, poses, seeds):
    system = quick(name)
    first, second = (system.generate(TEXTS[:1], poses[[k]], seeds(5))[0] for k in range(2))
    assert (first.image != second.image).any()
    assert (first.panels["pose"] != second.panels["pose"]).any()
    assert first.panels["pose"].shape == (SIZE, SIZE, 3)


def test_stable_diffusion_sees_no_pose(quick, poses, seeds):
    system = quick("stable-diffusion")
    first, second = (system.generate(TEXTS[:1], poses[[k]], seeds(5))[0] for k in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    assert first.panels == {}


def test_hands_change_what_is_shown_where_they_are_drawn(quick, poses, seeds):
    without = poses[:1].copy()
    without[:, 91:, 2] = 0
    for name, drawn in {"t2i-adapter": True, "t2i-adapter-body": False, "controlnet": True, "humansd": False}.items():
        system = quick(name)
        shown = [system.generate(TEXTS[:1], pose, seeds(5))[0].panels["pose"] for pose in (poses[:1], without)]
        assert (shown[0] != shown[1]).any() == drawn, name


class Recorder:
    """Keeps what the calls of a pipeline are given, which then take two steps."""

    def __init__(self, pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        call = type(pipeline).__call__

        def record(this: Any, **options: Any) -> Any:
            self.calls.append(options)
            return call(this, **options | {"num_inference_steps": 2})

        monkeypatch.setattr(type(pipeline), "__call__", record)


PUBLISHED = {
    "stable-diffusion": (50, 7.5, 0, {}),
    "controlnet": (20, 9, 1, {"controlnet_conditioning_scale": 1}),
    "controlnet-v1.0": (20, 9, 0, {"controlnet_conditioning_scale": 1}),
    "t2i-adapter": (50, 7.5, 0, {"adapter_conditioning_scale": 1}),
    "t2i-adapter-body": (50, 7.5, 0, {"adapter_conditioning_scale": 1}),
    "humansd": (50, 9, 0, {}),
    "handrefiner": (50, 9, 0, {"controlnet_conditioning_scale": 0.55, "strength": 1}),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_presets_reach_the_pipelines(name, load, poses, seeds, monkeypatch):
    for preset in ("native", "uniform"):
        system = load(name, preset)
        with monkeypatch.context() as patch:
            recorder = Recorder(system.pipeline, patch)
            if name == "handrefiner":
                Recorder(system.first.pipeline, patch)
            system.generate(TEXTS, poses, seeds(1, 2))
        steps, guidance, eta, strengths = PUBLISHED[name]
        if preset == "uniform":
            steps, guidance, eta = 50, 7.5, 0
        call = recorder.calls[0]
        assert (call["num_inference_steps"], call["guidance_scale"], call["eta"]) == (steps, guidance, eta)
        assert strengths.items() <= call.items()
        assert (call["height"], call["width"]) == (SIZE, SIZE)


@pytest.mark.parametrize("name", ["stable-diffusion", "controlnet", "t2i-adapter", "humansd", "handrefiner"])
def test_half_precision_runs_and_is_near(name, places, quick, poses, seeds):
    depth = OneHand(True, True) if name == "handrefiner" else None
    half = load_system(name, "native", SIZE, dtype=torch.bfloat16, places=places, hand_depth=depth)
    half.settings = replace(quick(name).settings, dtype=torch.bfloat16)
    if name == "handrefiner":
        half.first = quick("stable-diffusion")
    found = half.generate(TEXTS[:1], poses[:1], seeds(3))[0].image
    expected = quick(name).generate(TEXTS[:1], poses[:1], seeds(3))[0].image
    assert half.protocol()["dtype"] == "bfloat16"
    assert np.abs(found.astype(int) - expected).mean() < 12


def test_words_are_added_and_negated_as_the_preset_says(quick, poses, seeds, monkeypatch):
    heard: list[list[str]] = []
    system = quick("humansd")
    encode = type(system.pipeline.parts).encode_text

    def listen(parts: Any, texts: list[str]) -> torch.Tensor:
        heard.append(texts)
        return encode(parts, texts)

    monkeypatch.setattr(type(system.pipeline.parts), "encode_text", listen)
    system.generate(["a woman waves"], poses[:1], seeds(1))
    assert sorted(heard) == sorted(
        [[NEGATIVE], ["a woman waves, detailed background, best quality, extremely detailed"]]
    )


def test_a_prompt_that_is_cut_is_said(quick, poses, seeds):
    system = quick("stable-diffusion")
    short, long = system.generate(["a woman", " ".join(["zebra"] * 80)], poses, seeds(1, 2))
    assert short.remarks == ()
    assert [line.partition(":")[0] for line in long.remarks] == ["prompt cut"]


def test_eta_draws_from_each_image_s_own_generator(quick, poses, seeds):
    """ControlNet v1.1 samples with eta 1: the torch-wide generator must not matter."""
    system = quick("controlnet")
    torch.manual_seed(0)
    first = system.generate(TEXTS, poses, seeds(3, 4))
    torch.manual_seed(1)
    second = system.generate(TEXTS, poses, seeds(3, 4))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.image, b.image)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_protocol_says_what_decides_and_is_plain(name, load):
    protocol = load(name).protocol()
    assert json.loads(json.dumps(protocol)) == yaml.safe_load(yaml.safe_dump(protocol)) == protocol
    assert (protocol["system"], protocol["preset"], protocol["scheduler"]) == (name, "native", "DDIM")
    steps, guidance, eta, _ = PUBLISHED[name]
    assert (protocol["steps"], protocol["guidance_scale"], protocol["eta"]) == (steps, guidance, eta)
    for part in ("unet", "vae", "text_encoder", "controlnet", "adapter"):
        if part in protocol["weights"]:
            entry = protocol["weights"][part]
            files = (
                [Path(entry["from"])] if Path(entry["from"]).is_file() else Path(entry["from"]).rglob("*.safetensors")
            )
            assert entry["sha256"] in [sha256_of(file) for file in files], part


def test_arguments_of_another_number_are_refused(quick, poses, seeds):
    system = quick("stable-diffusion")
    with pytest.raises(ValueError, match="of one number, got 1"):
        system.generate(TEXTS[:1], poses, seeds(1))
    with pytest.raises(ValueError, match="of one number, got 2"):
        system.generate(TEXTS, poses, seeds(1))
    with pytest.raises(ValueError, match="pose must be"):
        system.generate(TEXTS, poses[:, :17], seeds(1, 2))

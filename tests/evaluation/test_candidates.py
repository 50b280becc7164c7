from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from h2d.baselines import SYSTEMS
from h2d.baselines.presets import UNIFORM, preset_of
from h2d.config import compose
from h2d.errors import CheckpointError, ConfigError, SetupError
from h2d.evaluation import candidates as module
from h2d.evaluation.candidates import METHODS, Candidate, candidates, own_device


@pytest.fixture
def all_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "missing", lambda name, places: [])


def names(methods: str, pipeline: str | None = "p") -> list[str]:
    return [candidate.name for candidate in candidates(methods, pipeline, "native", {})[0]]


@pytest.mark.usefixtures("all_here")
def test_names_on_the_command_line() -> None:
    assert names("h2d") == ["h2d"]
    assert names("bbox, naive,sequential") == ["bbox", "naive", "sequential"]
    assert names("h2d,controlnet,real") == ["h2d", "controlnet-native", "real"]
    ours, rival, copy = candidates("h2d,controlnet,real", "p", "native", {"base": "b"})[0]
    assert (ours.pipeline, rival.pipeline, copy.pipeline) == ("p", None, None)
    assert (rival.preset, rival.places) == ("native", {"base": "b"})
    assert names("controlnet", "p") == ["controlnet-native"]
    assert len(set(METHODS)) == len(METHODS)


def test_everything_that_named_systems_lack_is_told() -> None:
    with pytest.raises(SetupError) as caught:
        candidates("controlnet,humansd", None, "uniform", {})
    lines = caught.value.message.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["controlnet"] * 2 + ["humansd"] * 2
    assert "(controlnet) is not at" in lines[1]
    assert "--place KEY=PATH" in str(caught.value.hint)


def test_all_are_those_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = {name: [] if name in ("controlnet", "humansd") else ["weights"] for name in SYSTEMS}
    monkeypatch.setattr(module, "missing", lambda name, places: lacks[name])
    assert names("all") == ["h2d", "controlnet-native", "humansd-native"]
    assert names("all", None) == ["controlnet-native", "humansd-native"]
    _, left_out = candidates("all", "p", "native", {})
    assert left_out == [name for name in SYSTEMS if name not in ("controlnet", "humansd")]
    monkeypatch.setattr(module, "missing", lambda name, places: ["weights"])
    assert names("all") == ["h2d"]
    with pytest.raises(ConfigError, match="nothing to evaluate: no pipeline is named"):
        names("all", None)


@pytest.mark.parametrize(
    ("methods", "pipeline", "message", "hint"),
    [
        ("h2d", None, "method h2d needs a pipeline", "--pipeline"),
        ("naive", None, "method naive needs a pipeline", "--pipeline"),
        ("human-sd", None, "there is no method 'human-sd'", "did you mean humansd?"),
        ("xyz", None, "there is no method 'xyz'", "known: all, h2d, sequential, naive, bbox, stable-diffusion"),
        ("all,h2d", "p", "all stands alone", "one by one"),
        ("real,real", None, "a method comes twice in 'real,real'", "once"),
        ("", None, "there is no method ''", "known"),
    ],
)
def test_what_does_not_go_together_is_named(methods: str, pipeline: str | None, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        candidates(methods, pipeline, "uniform", {})
    assert hint in str(caught.value.hint)


def test_a_strategy_samples_with_its_blending(experiment: Callable[..., Any], pipeline_folder: str) -> None:
    settings = experiment("sampling.blending=sequential")
    for method, blending in (("naive", "naive"), ("bbox", "bbox"), ("h2d", "sequential")):
        sampler = Candidate(method, pipeline_folder).load(settings, None)  # type: ignore[arg-type]
        assert sampler.protocol()["sampling"]["blending"] == blending


def test_facts_name_every_file_of_a_pipeline(pipeline_folder: str) -> None:
    facts = Candidate("h2d", pipeline_folder).facts()
    assert (facts["method"], facts["pipeline"]) == ("h2d", pipeline_folder)
    assert {name.partition("/")[0] for name in facts["files"]} >= {
        "unet",
        "vae",
        "hand_unet",
        "controlnet",
        "scheduler",
    }
    assert "model_index.json" in facts["files"]
    assert all(len(checksum) == 64 for checksum in facts["files"].values())


def test_the_size_is_that_of_the_pipeline(pipeline_folder: str) -> None:
    assert Candidate("h2d", pipeline_folder).size == 32
    assert Candidate("real").size is None


def test_uniform_is_what_our_method_samples_with(
    experiment: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(module, "load_system", lambda *words, **options: seen.update(options))
    settings = experiment("sampling.guidance_scale=3", "sampling.negative_prompt=grey")
    Candidate("controlnet").load(settings, None)  # type: ignore[arg-type]
    uniform = seen["uniform"]
    assert (uniform.steps, uniform.guidance, uniform.negative, uniform.eta) == (4, 3.0, "grey", 0.0)
    assert preset_of("handrefiner", "uniform", uniform) == replace(uniform, strength=0.55)
    assert preset_of("handrefiner", "native", uniform).steps == 50


def test_the_paper_s_comparison_has_the_uniform_preset() -> None:
    sampling = compose("evaluate", ["data.shards=x"]).experiment.sampling
    assert (sampling.num_inference_steps, sampling.guidance_scale) == (UNIFORM.steps, UNIFORM.guidance)
    assert sampling.negative_prompt == UNIFORM.negative


def test_what_cannot_be_loaded_is_named(experiment: Callable[..., Any], pipeline_folder: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="trained with blend=noised"):
        Candidate("h2d", pipeline_folder).load(experiment("sampling.blend=clean"), None)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        Candidate("h2d", str(tmp_path)).load(experiment(), None)  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="humansd cannot run on this machine"):
        Candidate("humansd").load(experiment(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "count", "device"),
    [
        ({}, 0, "cpu"),
        ({"LOCAL_RANK": "3"}, 0, "cpu"),
        ({}, 4, "cuda:0"),
        ({"SLURM_LOCALID": "2"}, 4, "cuda:2"),
        ({"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, 4, "cuda:1"),
        ({"SLURM_LOCALID": "5"}, 1, "cuda:0"),
    ],
)
def test_each_process_of_a_node_has_its_gpu(
    environment: dict[str, str], count: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert own_device() == torch.device(device)

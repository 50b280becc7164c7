import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

from h2d.checkpoints import AtomicCheckpointIO
from h2d.cli import main
from h2d.errors import CheckpointError, SetupError
from h2d.export import export
from h2d.networks.outline import outline
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.seals import SealedFile
from h2d.tasks import build_task
from h2d.train import train


@pytest.fixture(scope="session")
def pipeline(stages: dict[str, Path], tmp_path_factory: Any) -> Path:
    return export(stages["hand"], stages["outpaint"], tmp_path_factory.mktemp("export") / "pipeline")


def test_weights_are_those_of_the_checkpoints(pipeline: Path, stages: dict[str, Path]) -> None:
    loaded = TwoStagePipeline.from_pretrained(pipeline)
    for name, prefix, network in (("hand", "unet.", loaded.hand_unet), ("outpaint", "controlnet.", loaded.controlnet)):
        trained = torch.load(stages[name], weights_only=True)["state_dict"]
        exported = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
        assert exported.keys() == trained.keys()
        assert all(torch.equal(exported[key], trained[key]) for key in trained)


def test_weights_can_be_written_in_half_precision(pipeline: Path, stages: dict[str, Path], tmp_path: Path) -> None:
    half = export(stages["hand"], stages["outpaint"], tmp_path / "half", "float16")
    size = {folder: sum(file.stat().st_size for file in folder.rglob("*.safetensors")) for folder in (half, pipeline)}
    assert 0.49 < size[half] / size[pipeline] < 0.52
    written, whole = (TwoStagePipeline.from_pretrained(folder).controlnet.state_dict() for folder in (half, pipeline))
    assert all(torch.equal(written[name], weight.half().float()) for name, weight in whole.items())
    with pytest.raises(SetupError, match="already exists"):
        export(stages["hand"], stages["outpaint"], half)


def test_weights_too_large_for_half_precision_are_refused(stages: dict[str, Path], tmp_path: Path) -> None:
    checkpoint = torch.load(stages["outpaint"], weights_only=True)
    checkpoint["state_dict"]["controlnet.conv_in.bias"].fill_(1e6)
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "large.ckpt")
    with pytest.raises(CheckpointError, match="controlnet has a weight beyond what float16 holds"):
        export(stages["hand"], tmp_path / "large.ckpt", tmp_path / "p", "float16")
    assert not (tmp_path / "p").exists()


def test_stage_one_can_go_on_from_an_export(pipeline: Path, smoke: Callable[..., Any], tmp_path: Path) -> None:
    wanted = TwoStagePipeline.from_pretrained(pipeline).hand_unet.state_dict()
    experiment = smoke(tmp_path, "hand", f"model.hand_unet={pipeline / 'hand_unet'}")
    started = build_task(experiment).networks[0].state_dict()
    assert all(torch.equal(started[name], weight) for name, weight in wanted.items())
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert not outline(experiment).missing


@pytest.mark.parametrize("counts", [build_task, outline], ids=["training", "dry run"])
def test_stage_one_of_another_head_is_refused(
    counts: Callable[..., Any], pipeline: Path, smoke: Callable[..., Any], tmp_path: Path
) -> None:
    experiment = smoke(tmp_path, "hand", f"model.hand_unet={pipeline / 'hand_unet'}", "model.mask_attach=up1")
    with pytest.raises(CheckpointError, match=r"trained with model\.mask_attach=last, not up1"):
        counts(experiment)


def test_settings_of_the_pipeline_are_those_of_the_training(pipeline: Path) -> None:
    config = TwoStagePipeline.from_pretrained(pipeline).config
    assert (config["image_size"], config["hand_size"], config["sigma_px"], config["margin"]) == (64, 64, 2.5, 1.6)
    assert (config["wrist"], config["blend"]) == ("all", "noised")


def test_card_tells_where_the_weights_come_from(pipeline: Path) -> None:
    card = (pipeline / "README.md").read_text()
    assert "sha256" in card
    assert "synthetic: 18" in card
    assert card.startswith("---\n")


def test_nothing_but_the_folder_is_left(pipeline: Path) -> None:
    assert [path.name for path in pipeline.parent.iterdir()] == ["pipeline"]


def test_command_prints_the_folder_and_overwrites_no_other(
    stages: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    words = [
        "export",
        "--hand",
        str(stages["hand"]),
        "--outpaint",
        str(stages["outpaint"]),
        "--out",
        str(tmp_path / "p"),
    ]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "p")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "p").rglob("*")}
    assert main(words) == 0, "the same export again is none"
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "p").rglob("*")}
    card = tmp_path / "p" / "README.md"
    card.write_text(card.read_text().replace("sha256: ", "sha256: 0"))
    capsys.readouterr()
    assert main(words) == 2
    assert "already exists" in capsys.readouterr().err


def test_swapped_stages_are_refused(stages: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="checkpoint of task outpaint, not of hand"):
        export(stages["outpaint"], stages["hand"], tmp_path / "p")


def test_stages_of_two_sizes_work_together(
    smoke: Callable[..., Any], stages: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    partner = f"evaluation.partner={stages['hand']}"
    other = train(smoke(tmp_path, "outpaint", "image_size=128", partner, "evaluation.samples=1"))
    folder = export(stages["hand"], other / "checkpoints" / "last.ckpt", tmp_path / "p")
    config = TwoStagePipeline.from_pretrained(folder).config
    assert (config["image_size"], config["hand_size"], config["sigma_px"]) == (128, 64, 2.5)
    words = ["sample", "--pipeline", folder, "--pose", shards, "--steps", "3", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    assert Image.open(tmp_path / "out" / "result.png").size == (128, 128)


def test_stages_on_two_bases_are_refused(
    smoke: Callable[..., Any], base: Path, stages: dict[str, Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(base, tmp_path / "other")
    other = train(smoke(tmp_path, "outpaint", f"model.base={copy}", "evaluation.split=none"))
    with pytest.raises(CheckpointError, match=rf"model\.base is {base} in stage I and {copy} in stage II"):
        export(stages["hand"], other / "checkpoints" / "last.ckpt", tmp_path / "p")


@pytest.mark.parametrize("damage", ["missing", "truncated", "other", "nan", "shape"])
def test_damaged_checkpoints_are_refused(damage: str, stages: dict[str, Path], tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "bad.ckpt", torch.load(stages["hand"], weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    if damage == "truncated":
        path.write_bytes(stages["hand"].read_bytes()[:5000])
    elif damage == "other":
        torch.save({"weights": torch.ones(3)}, path)
    elif damage == "nan":
        checkpoint["state_dict"][name].fill_(float("nan"))
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    elif damage == "shape":
        checkpoint["state_dict"][name] = torch.ones(1)
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    with pytest.raises(CheckpointError, match=r"bad\.ckpt"):
        export(path, stages["outpaint"], tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_full_disk_leaves_nothing_behind(stages: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("h2d.export.write_card", full)
    with pytest.raises(SetupError, match="No space left"):
        export(stages["hand"], stages["outpaint"], tmp_path / "p")
    assert not any(tmp_path.iterdir())


def test_checkpoint_that_would_run_code_is_refused(tmp_path: Path, stages: dict[str, Path], monkeypatch: Any) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "evil.ckpt"
    with open(path, "wb") as file:
        sealed = SealedFile(file)
        torch.save({"state_dict": {}, "hyper_parameters": Payload()}, sealed)
        sealed.seal()
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(CheckpointError, match="cannot be read"):
        export(path, stages["outpaint"], tmp_path / "p")
    assert not (tmp_path / "ran").exists()

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from h2d.cli import main
from h2d.data.shards import iter_samples
from h2d.data.square import square_sample
from h2d.export import export
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.skeleton import HAND_LABELS, HANDS


@pytest.fixture(scope="module")
def pipeline(stages: dict[str, Path], tmp_path_factory: Any) -> Path:
    return export(stages["hand"], stages["outpaint"], tmp_path_factory.mktemp("export") / "pipeline")


def _sample(pipeline: Path, pose: str, out: Path, *more: str) -> int:
    return main(
        [
            "sample",
            "--pipeline",
            str(pipeline),
            "--pose",
            pose,
            "--steps",
            "3",
            "--device",
            "cpu",
            "--out",
            str(out),
            *more,
        ]
    )


def _keypoints(path: Path) -> str:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(40, 160, (133, 2)), np.full((133, 1), 2)], axis=1)
    points[HANDS, :2] = rng.uniform(60, 120, (42, 2))
    path.write_text(json.dumps({"keypoints": points.tolist(), "width": 200, "height": 220}))
    return str(path)


@pytest.mark.parametrize("source", ["{}::val001", "{}/val-000000.tar::val001", "{}"])
def test_from_a_sample_of_shards(source: str, pipeline: Path, shards: Path, tmp_path: Path) -> None:
    assert _sample(pipeline, source.format(shards), tmp_path) == 0
    assert Image.open(tmp_path / "result.png").size == (64, 64)
    stages = Image.open(tmp_path / "stages.png")
    assert stages.width > 6 * 256  # pose, hands, masks, canvas, result, photograph
    record = json.loads((tmp_path / "sample.json").read_text())
    assert record["prompt"] == ("a person points at the sky" if "::" in source else "a person waves")
    assert record["seeds"] == [0]
    assert record["sampling"]["num_inference_steps"] == 3
    assert record["scheduler"]["class"] == "DDIMScheduler"
    assert record["options"]["guidance"] is None
    assert record["sampling"]["guidance_scale"] == TwoStagePipeline.load_config(pipeline)["guidance_scale"]
    assert len(record["pipeline_sha256sums"]) == 64


def test_from_keypoints_the_seed_decides(pipeline: Path, tmp_path: Path) -> None:
    pose = _keypoints(tmp_path / "pose.json")
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert _sample(pipeline, pose, tmp_path / name, "--seed", seed, "--prompt", "a person") == 0
    one, same, other = ((tmp_path / name / "result.png").read_bytes() for name in "abc")
    assert one == same != other
    assert Image.open(tmp_path / "a" / "stages.png").width < 6 * 256  # there is no photograph


@pytest.mark.parametrize("blending", ["naive", "bbox"])
def test_blendings(blending: str, pipeline: Path, shards: Path, tmp_path: Path) -> None:
    assert _sample(pipeline, f"{shards}::val000", tmp_path, "--blending", blending) == 0


@pytest.mark.parametrize(
    ("pose", "more", "message"),
    [
        ("none.jpg", [], "none.jpg"),
        ("none.json", [], "none.json"),
        ("{shards}::nobody", [], "has no sample 'nobody'"),
        ("none::a", [], "none"),
        ("{shards}::val000", ["--steps", "2"], "--steps has to lie between 3 and 1000"),
        ("{shards}::val000", ["--guidance", "nan"], "--guidance has to lie between 0 and 1000, not nan"),
        ("{shards}::val000", ["--seed", "-1"], "--seed has to be a number of at least 0"),
        ("{shards}::val000", ["--device", "toaster"], "--device=toaster names no device"),
        ("{shards}::val000", ["--start-radius", "1e12"], "--start-radius has to lie between 0 and 4096"),
        ("{shards}::val000", ["--offload"], "--offload needs a GPU"),
        ("{shards}::val000", ["--height", "62"], "--height has to be a multiple of 4, not 62"),
        ("{shards}::val000", ["--sam", "x.pth"], "--sam finds the hands that --keep-hand keeps"),
        ("{shards}::val000", ["--pipeline", "nowhere"], "nowhere"),
    ],
)
def test_wrong_input_is_named(
    pose: str, more: list[str], message: str, pipeline: Path, shards: Path, tmp_path: Path, capsys: Any
) -> None:
    assert _sample(pipeline, pose.format(shards=shards), tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_several_images_of_several_poses(pipeline: Path, shards: Path, tmp_path: Path, capsys: Any) -> None:
    poses = [f"{shards}::val000", str(tmp_path / "none.jpg"), _keypoints(tmp_path / "pose.json")]
    assert _sample(pipeline, poses[0], tmp_path / "out", "--pose", *poses, "--count", "2", "--seed", "5") == 2
    printed = capsys.readouterr()
    assert "none.jpg" in printed.err
    made = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")}
    each = {
        "pose.png",
        "pose.json",
        "sample.json",
        *(f"{kind}-{seed}.png" for kind in ("result", "stages") for seed in (5, 6)),
    }
    assert made == {"val000", "pose", *(f"{name}/{file}" for name in ("val000", "pose") for file in each)}


def test_of_a_folder_of_pictures_each_has_its_own(pipeline: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("one.png", "two.png"):
        Image.new("RGB", (64, 64), "grey").save(folder / name)
    assert _sample(pipeline, str(folder), tmp_path / "out", "--pose-only") == 2
    assert {"one.png", "two.png"} <= {word.strip(":").rpartition("/")[2] for word in capsys.readouterr().err.split()}


def test_images_are_those_that_a_command_of_their_own_makes(pipeline: Path, shards: Path, tmp_path: Path) -> None:
    assert _sample(pipeline, f"{shards}::val000", tmp_path / "both", "--count", "2") == 0
    assert _sample(pipeline, f"{shards}::val000", tmp_path / "second", "--seed", "1") == 0
    both, alone = (np.asarray(Image.open(tmp_path / name), int) for name in ("both/result-1.png", "second/result.png"))
    assert np.abs(both - alone).max() <= 1


def test_the_pose_can_be_looked_at_before_anything_is_loaded(pipeline: Path, shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pipeline, tmp_path / "pipeline"))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert _sample(folder, f"{shards}::val000", tmp_path / "out", "--pose-only") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pose.json", "pose.png"]
    assert Image.open(tmp_path / "out" / "pose.png").size == (512, 512)
    assert _sample(folder, f"{shards}::val000", tmp_path / "out") == 2


def test_the_pose_that_is_written_gives_the_same_image(pipeline: Path, shards: Path, tmp_path: Path) -> None:
    assert _sample(pipeline, f"{shards}::val000", tmp_path / "a", "--prompt", "x") == 0
    assert _sample(pipeline, str(tmp_path / "a" / "pose.json"), tmp_path / "b", "--prompt", "x") == 0
    assert (tmp_path / "a" / "result.png").read_bytes() == (tmp_path / "b" / "result.png").read_bytes()


def test_a_canvas_that_is_not_square(pipeline: Path, shards: Path, tmp_path: Path) -> None:
    assert _sample(pipeline, f"{shards}::val000", tmp_path, "--height", "96", "--width", "80") == 0
    assert Image.open(tmp_path / "result.png").size == (80, 96)


def test_another_scheduler(pipeline: Path, shards: Path, tmp_path: Path, capsys: Any) -> None:
    assert _sample(pipeline, f"{shards}::val000", tmp_path, "--scheduler", "EulerDiscrete") == 0
    assert json.loads((tmp_path / "sample.json").read_text())["scheduler"]["class"] == "EulerDiscreteScheduler"
    assert _sample(pipeline, f"{shards}::val000", tmp_path, "--scheduler", "Best") == 2
    assert "choose one of DDIM, DDPM, DEISMultistep" in capsys.readouterr().err


@pytest.mark.parametrize("hands", [["left"], ["left", "right"]])
def test_kept_hands_are_the_pixels_of_the_photograph(
    hands: list[str], pipeline: Path, shards: Path, tmp_path: Path
) -> None:
    assert _sample(pipeline, f"{shards}::val000", tmp_path, "--keep-hand", *hands) == 0
    sample = next(sample for sample in iter_samples(shards, "val") if sample.key == "val000")
    framed = square_sample(sample, 64)
    kept = np.isin(framed.hands, [HAND_LABELS[hand] for hand in hands])
    assert 0.03 < kept.mean() < 0.5
    result = np.asarray(Image.open(tmp_path / "result.png"))
    np.testing.assert_array_equal(result[kept], framed.image[kept])
    assert (result[~kept] != framed.image[~kept]).any(axis=1).mean() > 0.9


def test_a_hand_that_is_not_there_cannot_be_kept(pipeline: Path, shards: Path, tmp_path: Path, capsys: Any) -> None:
    assert _sample(pipeline, _keypoints(tmp_path / "pose.json"), tmp_path / "out", "--keep-hand", "left") == 2
    assert "pose.json has no picture whose hand could be kept" in capsys.readouterr().err


def test_a_mask_that_is_given(pipeline: Path, shards: Path, tmp_path: Path, capsys: Any) -> None:
    sample = next(iter_samples(shards, "val"))
    Image.fromarray(np.where(sample.hands > 0, 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    assert _sample(pipeline, f"{shards}::val000", tmp_path / "out", "--hand-mask", str(tmp_path / "mask.png")) == 0
    Image.fromarray(sample.hands[:50]).save(tmp_path / "mask.png")
    assert _sample(pipeline, f"{shards}::val000", tmp_path / "out", "--hand-mask", str(tmp_path / "mask.png")) == 2
    assert "mask.png is 80 x 50 pixels" in capsys.readouterr().err


def test_a_mask_that_misses_the_hand_keeps_nothing(pipeline: Path, shards: Path, tmp_path: Path, capsys: Any) -> None:
    mask = np.zeros((96, 80), np.uint8)
    mask[90:, :] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    more = ("--keep-hand", "left", "--hand-mask", str(tmp_path / "mask.png"))
    assert _sample(pipeline, f"{shards}::val000", tmp_path / "out", *more) == 2
    assert "the mask of the left hand does not hold most of its keypoints" in capsys.readouterr().err


def test_warnings_are_said_with_the_name_of_the_pose_and_recorded(
    pipeline: Path, shards: Path, tmp_path: Path, capsys: Any
) -> None:
    assert _sample(pipeline, f"{shards}::val000", tmp_path, "--prompt", "word " * 150) == 0
    assert "val000, seed 0: the prompt has" in capsys.readouterr().err
    assert any("the prompt has" in line for line in json.loads((tmp_path / "sample.json").read_text())["warnings"])


def test_what_a_scheduler_cannot_do_is_said(pipeline: Path, shards: Path, tmp_path: Path, capsys: Any) -> None:
    assert _sample(pipeline, f"{shards}::val000", tmp_path, "--scheduler", "PNDM") == 2
    assert "hint: use more --steps" in capsys.readouterr().err


def test_places_that_hold_something_else_are_refused(pipeline: Path, shards: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("")
    for out, message in ((tmp_path / "file", "is a file"), (pipeline, "is the folder of a pipeline")):
        assert _sample(pipeline, f"{shards}::val000", out) == 2
        assert message in capsys.readouterr().err


def test_short_memory_halves_the_batch_and_then_says_what_helps(
    pipeline: Path, shards: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    original, fitting = TwoStagePipeline.__call__, [1]

    def call(self: Any, prompt: list[str], *rest: Any, **options: Any) -> Any:
        if len(prompt) > fitting[0]:
            raise torch.OutOfMemoryError
        return original(self, prompt, *rest, **options)

    monkeypatch.setattr(TwoStagePipeline, "__call__", call)
    assert _sample(pipeline, f"{shards}::val000", tmp_path, "--count", "3") == 0
    assert "out of memory: going on with batches of 1" in capsys.readouterr().err
    fitting[0] = 0
    assert _sample(pipeline, f"{shards}::val000", tmp_path) == 2
    assert "use --offload, --dtype bfloat16" in capsys.readouterr().err


def test_the_lines_of_the_readme(pipeline: Path, shards: Path, tmp_path: Path, monkeypatch: Any) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    lines = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "TwoStagePipeline" in block)
    assert len([line for line in lines.splitlines() if line]) == 6
    for mine, ours in (
        ("runs/demo/pipeline", pipeline),
        ("photograph.jpg", f"{shards}::val000"),
        ("128, 128", "64, 64"),
    ):
        assert mine in lines
        lines = lines.replace(mine, str(ours))
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    assert Image.open("person.png").size == (64, 64)


def test_from_a_photograph(pipeline: Path, photographs: Path, tmp_path: Path) -> None:
    photograph = sorted((photographs / "hagrid").rglob("*.jpg"))[0]
    assert _sample(pipeline, str(photograph), tmp_path) == 0
    assert Image.open(tmp_path / "result.png").size == (64, 64)


def test_the_benchmark_is_a_command(pipeline: Path, capsys: Any) -> None:
    words = ["bench", "sample", "--pipeline", str(pipeline), "--images", "2", "--steps", "3", "--rounds", "1"]
    assert main([*words, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^batch of 2 .*\d$", printed, re.M)
    assert main([*words, "--images", "0"]) == 2

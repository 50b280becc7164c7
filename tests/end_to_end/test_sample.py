import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from h2d.cli import main
from h2d.export import export
from h2d.skeleton import HANDS


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
    assert record["seed"] == 0
    assert record["sampling"]["num_inference_steps"] == 3


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
        ("{shards}::val000", ["--guidance", "nan"], "--guidance has to be a number"),
        ("{shards}::val000", ["--seed", "-1"], "--seed has to be at least 0"),
        ("{shards}::val000", ["--device", "toaster"], "--device toaster"),
        ("{shards}::val000", ["--pipeline", "nowhere"], "nowhere"),
    ],
)
def test_wrong_input_is_named(
    pose: str, more: list[str], message: str, pipeline: Path, shards: Path, tmp_path: Path, capsys: Any
) -> None:
    assert _sample(pipeline, pose.format(shards=shards), tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_from_a_photograph(pipeline: Path, photographs: Path, tmp_path: Path) -> None:
    photograph = sorted((photographs / "hagrid").rglob("*.jpg"))[0]
    assert _sample(pipeline, str(photograph), tmp_path) == 0
    assert Image.open(tmp_path / "result.png").size == (64, 64)

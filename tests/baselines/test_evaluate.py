"""Every system through the command, on a few samples of shards, into one kind of report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d import evaluation_run
from h2d.baselines import presets
from h2d.cli import main
from h2d.data.schema import encode_sample
from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
from h2d.files import sha256_of
from h2d.images import encode_png
from h2d.skeleton import HAND_LABELS

from .conftest import SIZE

SYSTEMS = ("stable-diffusion", "controlnet", "t2i-adapter", "humansd", "handrefiner")


class Nobody:
    """Stands in for the class of the MediaPipe detector and finds nobody."""

    def __enter__(self) -> Any:
        from h2d.annotators.pose import PoseResult

        return lambda images: [PoseResult(np.zeros((133, 3), np.float32), 0.0, frozenset()) for _ in images]

    def __exit__(self, *error: object) -> None:
        return None


@pytest.fixture(scope="module")
def shards(poses: np.ndarray, tmp_path_factory: Any) -> Path:
    """The two people of the other tests as a test split."""
    folder, samples = tmp_path_factory.mktemp("shards"), []
    rng = np.random.default_rng(0)
    for number, pose in enumerate(poses):
        image = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
        hands = np.zeros((SIZE, SIZE), np.uint8)
        hands[20:40, 4:24], hands[20:40, 40:60] = HAND_LABELS["right"], HAND_LABELS["left"]
        key = f"person{number}"
        meta = {"schema": 1, "key": key, "source": "synthetic", "split": "test", "size": [SIZE, SIZE]}
        samples.append((key, encode_sample(key, encode_png(image), "png", hands, pose, f"person {number}", meta)))
    path = folder / "test-000000.tar"
    write_tar(path, samples)
    info = ShardInfo(path.name, "test", len(samples), path.stat().st_size, sha256_of(path))
    write_manifest(folder, Manifest((info,), {"synthetic": len(samples)}, {}))
    return folder


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_fills_a_report(
    system: str, places: dict[str, str], shards: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    quick = {name: replace(preset, steps=2) for name, preset in presets.NATIVE.items()}
    monkeypatch.setattr(presets, "NATIVE", quick)
    monkeypatch.setattr(evaluation_run, "PoseDetector", Nobody)
    words = [f"--place={key}={place}" for key, place in places.items()]
    if system == "handrefiner":
        (tmp_path / "depth").mkdir()
        words += ["--place", f"hand-depth-command={_no_hands(tmp_path)}"]
    run = [f"data.shards={shards}", f"run.dir={tmp_path}", "run.name=x", "preset=tiny"]
    run += [f"image_size={SIZE}", "evaluation.samples=-1"]
    assert main(["evaluate", "evaluate", "--method", system, "--preset", "native", *words, *run]) == 0, (
        capsys.readouterr()
    )
    report = json.loads((tmp_path / "x" / "metrics.json").read_text())
    assert report["n"] == 2
    assert report["detection_rate"] == report["dap"] == 0.0
    assert report["mpjpe"] > 0.2
    assert report["protocol"]["method"] == system
    assert report["protocol"]["remarks"] == ({"no hand found": 2} if system == "handrefiner" else {})
    assert report["skipped"]["mask_iou"]
    assert len(list((tmp_path / "x" / "samples").iterdir())) == 2


def _no_hands(folder: Path) -> str:
    """A program that finds no hand in any picture."""
    program = folder / "depth.sh"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    return str(program)

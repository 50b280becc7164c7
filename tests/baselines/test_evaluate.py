"""Every system through the command, on a few samples of shards, into one kind of report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.annotators.pose import PoseResult
from h2d.baselines import SYSTEMS, presets
from h2d.cli import main
from h2d.data.schema import encode_sample
from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
from h2d.evaluation import run
from h2d.files import sha256_of
from h2d.images import encode_png
from h2d.skeleton import HAND_LABELS

from ..evaluation.conftest import tiny_pipeline
from .conftest import SIZE


class Nobody:
    """Stands in for the class of the MediaPipe detector and finds nobody."""

    def __init__(self, *settings: Any) -> None:
        return None

    def __enter__(self) -> Nobody:
        return self

    def submit(self, images: Any) -> Any:
        return lambda: [PoseResult(np.zeros((133, 3), np.float32), 0.0, frozenset()) for _ in images]

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


def test_all_systems_and_ours_fill_one_table(
    places: dict[str, str], shards: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    quick = {name: replace(preset, steps=2) for name, preset in presets.NATIVE.items()}
    monkeypatch.setattr(presets, "NATIVE", quick)
    monkeypatch.setattr(run, "PoseDetector", Nobody)
    tiny_pipeline(SIZE).save_pretrained(tmp_path / "pipeline")
    words = [f"--place={key}={place}" for key, place in places.items()]
    words += ["--place", f"hand-depth-command={_no_hands(tmp_path)}", "--preset", "native"]
    words += ["--pipeline", str(tmp_path / "pipeline")]
    world = [f"data.shards={shards}", f"run.dir={tmp_path}", "run.name=x", "preset=tiny", f"image_size={SIZE}"]
    world += ["evaluation.samples=-1", "sampling.num_inference_steps=4"]
    assert main(["evaluate", "evaluate", *words, *world]) == 0, capsys.readouterr()
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0][:8] == ["method", "n", "dap", "dap_hands", "mpjpe", "mpjpe_hands", "detection_rate", "mask_iou"]
    assert [row[0] for row in rows[2:]] == ["h2d", *(f"{name} (native)" for name in SYSTEMS)]
    for row in rows[2:]:
        assert row[1:4] == ["2", "0.0000", "0.0000"]
        assert float(row[4]) > 0.2
        assert (row[7] == "-") == (row[0] != "h2d")
    for name in ("h2d", *(f"{name}-native" for name in SYSTEMS)):
        report = json.loads((tmp_path / "x" / name / "metrics.json").read_text())
        assert report["protocol"]["remarks"].get("no hand found", 0) == (2 if name == "handrefiner-native" else 0)
        assert "sha256" in str(report["protocol"]) or report["protocol"]["files"]
        assert len(list((tmp_path / "x" / name / "samples").iterdir())) == 2


def _no_hands(folder: Path) -> str:
    """A program that finds no hand in any picture."""
    program = folder / "depth.sh"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    return str(program)

"""The commands of `make demo`, as make prints them, in miniature: what a newcomer runs first has to work."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "train": [
        "trainer.max_steps=2",
        "trainer.log_every_n_steps=1",
        "optim.warmup_steps=0",
        "evaluation.samples=1",
        "sampling.num_inference_steps=3",
    ],
    "evaluate": ["evaluation.samples=1", "sampling.num_inference_steps=3"],
    "generate": ["count=16", "size=320"],
}


def demo_commands(runs: Path) -> list[list[str]]:
    printed = subprocess.run(
        ["make", "-n", "demo", f"RUNS={runs}", "JOBS=2"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    ours = (".venv/bin/h2d", ".venv/bin/python -m data_prep")
    commands = []
    for program, *words in (shlex.split(line) for line in printed.splitlines() if line.startswith(ours)):
        commands.append([sys.executable, *(["-m", "h2d"] if program.endswith("h2d") else []), *words])
    return commands


def shrunk(words: list[str]) -> list[str]:
    extra = SMALL.get(words[3], [])
    replaced = {item.split("=")[0] for item in extra}
    return [*(word for word in words if word.split("=")[0] not in replaced), *extra]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    commands = demo_commands(runs)
    assert [words[3] for words in commands] == ["generate", "all", "train", "train", "export", "sample", "evaluate"]
    for words in commands:
        done = subprocess.run(shrunk(words), cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        assert "Traceback" not in done.stderr
    return runs / "demo"


def test_the_demo_leaves_a_report_and_metrics(demo: Path) -> None:
    metrics = json.loads((demo / "evaluation" / "h2d" / "metrics.json").read_text())
    assert metrics["n"] == 1
    assert 0 <= metrics["mask_iou"] <= 1
    assert metrics["fid"] is None
    assert "weights" in metrics["skipped"]["fid"]
    assert (demo / "evaluation" / "index.html").read_text().startswith("<!DOCTYPE html>")
    for picture in ("evaluation/h2d/report.png", "sample/result.png", "sample/stages.png"):
        assert (demo / picture).stat().st_size > 1000


def test_tensorboard_finds_losses_learning_rate_pictures_and_metrics(demo: Path) -> None:
    events = EventAccumulator(str(demo / "outpaint"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "train/ldm", "train/lr", "eval/mask_iou", "eval/detection_rate"} <= scalars
    assert events.Tags()["images"]


def test_shards_and_pipeline_are_whole(demo: Path) -> None:
    check = subprocess.run(
        [sys.executable, "-m", "h2d", "data", "check", str(demo / "data" / "shards")], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert (demo / "pipeline" / "README.md").read_text().startswith("---")

"""SIGKILLs in the middle of an evaluation: it goes on, and ends with the same figures to the last bit.

The short form kills forked processes with a stand-in for MediaPipe; the long one the real command on 200 samples.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from h2d.evaluation import run
from h2d.evaluation.candidates import Candidate
from h2d.evaluation.run import run_evaluation

from ..conftest import Scattered, person, tiny_pipeline

KILLS = {False: 2, True: 10}
SAMPLES = {False: 16, True: 200}


def outcome(folder: Path) -> tuple[Any, dict[str, bytes]]:
    """Everything but the time and the command, and every picture."""
    report = json.loads((folder / "metrics.json").read_text())
    del report["provenance"]
    return report, {path.name: path.read_bytes() for path in sorted((folder / "samples").iterdir())}


def lines(folder: Path) -> list[int]:
    """Numbers of the samples that have a row."""
    return [
        json.loads(line)["number"]
        for path in sorted(folder.glob("rows/*.jsonl"))  # finished files: one being written may be gone when read
        for line in path.read_text().splitlines()
    ]


def kill_until(kills: int, start: Callable[[], Any], folder: Path, rng: random.Random) -> int:
    """Start and kill processes that evaluate, each some time after it wrote its first rows; how many were killed."""
    killed = 0
    while killed < kills and not (folder / "metrics.json").exists():
        before, process = len(lines(folder)), start()
        while len(lines(folder)) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is None:
            killed += 1
        process.kill()
        process.wait()
    return killed


class Forked:
    """A forked process that evaluates, with the interface of one of another interpreter."""

    def __init__(self, settings: Any, systems: list[Candidate]) -> None:
        self.process = get_context("fork").Process(target=run_evaluation, args=(settings, systems), daemon=True)
        self.process.start()
        self.kill, self.wait = self.process.kill, self.process.join

    def poll(self) -> int | None:
        return self.process.exitcode


def test_figures_after_kills_are_those_of_an_undisturbed_run(
    experiment: Callable[..., Any],
    long: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: Callable[[str], None],
) -> None:
    people = [person(number) for number in range(SAMPLES[long])]
    tiny_pipeline(64).save_pretrained(tmp_path / "pipeline")
    words = ["evaluation.batch_size=4", "evaluation.methods=h2d"]
    whole, broken = (experiment(*words, f"run.name={name}", people=people) for name in ("whole", "broken"))
    folder, systems = tmp_path / "runs" / "broken" / "h2d", [Candidate("h2d", str(tmp_path / "pipeline"))]

    def command() -> Any:
        if not long:
            return Forked(broken, systems)
        settings = [*words, "run.name=broken", "image_size=64", "sampling.num_inference_steps=4"]
        settings += [f"data.shards={broken.data.shards}", f"run.dir={broken.run.dir}"]
        line = [sys.executable, "-m", "h2d", "evaluate", "evaluate", "--pipeline", systems[0].pipeline, *settings]
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    if not long:
        monkeypatch.setattr(run, "PoseDetector", Scattered)
    killed = kill_until(KILLS[long], command, folder, random.Random(0))
    assert killed == KILLS[long], "too few samples for so many kills"
    last = command()
    last.wait()
    run_evaluation(whole, systems)
    assert lines(folder) == list(range(SAMPLES[long]))
    assert outcome(folder) == outcome(tmp_path / "runs" / "whole" / "h2d")
    assert not list(folder.rglob("*.tmp"))
    figures(f"{killed} kills, {SAMPLES[long]} samples, the same figures and pictures to the last bit")

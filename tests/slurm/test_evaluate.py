"""An evaluation by an array, and what one process makes of the same samples."""

from __future__ import annotations

import json
from pathlib import Path

from .cluster import Cluster
from .conftest import Checkout

RECIPE = ["evaluation.split=test", "evaluation.batch_size=1", "sampling.num_inference_steps=4", "seed=5"]


def numbers(folder: Path) -> dict[str, object]:
    """What was measured, without how."""
    metrics = json.loads((folder / "evaluation" / "h2d" / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key != "provenance"}


def rows(folder: Path) -> dict[str, bytes]:
    """Every row and picture."""
    parts = folder / "evaluation" / "h2d"
    files = [path for path in parts.rglob("*") if path.is_file() and path.suffix in (".npz", ".npy", ".png", ".jsonl")]
    return {str(path.relative_to(parts)): path.read_bytes() for path in files}


def test_an_array_and_one_process_measure_the_same(
    checkout: Checkout, cluster: Cluster, world: list[str], stages: dict[str, Path]
) -> None:
    from h2d.cli import main

    pipeline = checkout.folder / "pipeline"
    hand, outpaint = (str(stages[name]) for name in ("hand", "outpaint"))
    assert main(["export", "--hand", hand, "--outpaint", outpaint, "--out", str(pipeline)]) == 0
    words = ["evaluate", "evaluate", "--pipeline", str(pipeline), *world, *RECIPE, "run.name=evaluation"]
    alone = checkout.folder / "alone"
    assert main([*words, f"run.dir={alone}"]) == 0
    job = checkout.sbatch("--array=0-1", "slurm/evaluate.sbatch", *words[1:])
    states = cluster.wait(job)
    assert [states[key].state for key in "01"] == ["COMPLETED", "COMPLETED"], checkout.log(job)
    table = checkout.sbatch("slurm/command.sbatch", *words, f"run.dir={checkout.folder / 'runs'}")
    assert cluster.wait(table)[""].state == "COMPLETED", checkout.log(table)
    runs = checkout.folder / "runs"
    assert numbers(runs) == numbers(alone)
    assert rows(runs) == rows(alone)
    assert len(rows(runs)) > 3
    assert "mpjpe" in checkout.log(table).lower()

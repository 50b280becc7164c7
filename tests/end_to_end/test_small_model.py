"""``make tiny-model`` and ``make miniature`` in short: fewer people, two steps of each training, a few samples."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("only_long")
def test_one_seed_gives_one_model_and_every_claim_a_table(tmp_path: Path, figures: Callable[[str], None]) -> None:
    first, second = ((_make("tiny-model", tmp_path / name), tmp_path / name / "model")[1] for name in ("one", "two"))
    sums = (first / "SHA256SUMS").read_text()
    assert len(re.findall(r"\.safetensors$", sums, re.M)) == 5
    assert sums == (second / "SHA256SUMS").read_text()

    printed = _make(
        "miniature", tmp_path / "one", "SEEDS=0 1", "JUDGE=evaluation.samples=4 sampling.num_inference_steps=2"
    )
    tables = printed[printed.index("\n(i) ") :]
    assert re.findall(r"^\((\w+)\)", tables, re.M) == ["i", "ii", "iii", "iv", "v", "vi"]
    assert tables.count("mean ± standard deviation over the seeds 0, 1") == 6
    assert len(list((tmp_path / "one" / "miniature").glob("*.jpg"))) == 6
    figures("five networks, equal to the bit in two runs; six tables with pictures")


def _make(target: str, model: Path, *words: str) -> str:
    """What a target prints; all that it makes lies under ``model``."""
    train = "TRAIN=trainer.max_steps=2 trainer.log_every_n_steps=1 optim.warmup_steps=1"
    command = ["make", target, "PEOPLE=60", train, f"MODEL={model}", f"SHIPPED={model}/model", *words]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return made.stdout

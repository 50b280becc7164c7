from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from h2d.errors import DataError
from h2d.scratch_card import Curve, read_curve, section, write

CARD = "# model\n\n## Made from\n\nnothing\n\n## Limits\n\n* many\n"


def test_curve_of_a_resumed_run_holds_each_step_once(tmp_path: Path) -> None:
    for first, loss in ((0, 1.0), (20, 0.5)):
        with SummaryWriter(str(tmp_path), filename_suffix=str(first)) as board:
            for step in range(first, first + 40, 10):
                board.add_scalar("train/loss", loss, step, walltime=1000 + 36 * step + (50_000 if first else 0))
    curve = read_curve(tmp_path)
    assert curve.steps.tolist() == [0, 10, 20, 30, 40, 50]
    assert curve.losses.tolist() == [1, 1, 0.5, 0.5, 0.5, 0.5]
    assert curve.hours == pytest.approx(0.5), "50 steps of 36 s; the pause is not among them"


def test_section_comes_before_the_limits_and_only_once(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(CARD)
    steps = np.arange(0, 100, 5)
    curve = Curve("hand", steps, np.linspace(1, 0.1, len(steps)), 7.2 * steps)
    write(card, [curve])
    once = card.read_text()
    assert "| `hand` | 95 | 0.2 | 0.100 |" in once
    assert once.index("## Made from") < once.index("## Training") < once.index("## Limits")
    assert Image.open(tmp_path / "training.png").width > 200
    write(card, [curve])
    assert card.read_text() == once


def test_a_single_logged_step_has_a_loss_and_no_hours() -> None:
    assert "| `hand` | 2 | nan | 0.500 |" in section([Curve("hand", np.array([2]), np.array([0.5]), np.array([7.0]))])


def test_a_run_without_losses_is_named(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as board:
        board.add_scalar("eval/n", 1, 0)
    with pytest.raises(DataError, match=f"{tmp_path} holds no logged loss"):
        read_curve(tmp_path)

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.board import Board, add_picture


def _events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def test_a_resumed_run_repeats_no_step(tmp_path: Path) -> None:
    for first, value in ((0, 1.0), (6, 2.0)):
        board = Board(tmp_path, first_step=first)
        for step in range(first, 9):
            board.log_metrics({"train/loss": value}, step)
        board.finalize("success")
    events = _events(tmp_path).Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [(step, 1 + (step > 5)) for step in range(9)]


def test_a_full_disk_loses_scalars_and_not_the_run(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    board, write, full = Board(tmp_path), RecordWriter.write, []

    def may_be_full(*arguments: Any) -> None:
        if full:
            raise OSError(28, "No space left on device")
        write(*arguments)

    monkeypatch.setattr(RecordWriter, "write", may_be_full)
    monkeypatch.setattr("threading.excepthook", lambda arguments: None)
    for step in range(30):
        full[:] = [True] * (10 <= step < 20)
        board.log_metrics({"a": step}, step)
        board.save()
        time.sleep(0.01)
    board.finalize("success")
    assert board.failures
    assert capsys.readouterr().err.count("TensorBoard: [Errno 28] No space left on device; training goes on") == 1
    steps = {event.step for event in _events(tmp_path).Scalars("a")}
    assert set(range(8)) | set(range(22, 30)) <= steps


def test_what_is_no_fault_of_the_disk_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not supported"):
        Board(tmp_path).log_metrics({"a": object()}, 0)  # type: ignore[dict-item]


def test_a_hundred_evaluations_and_ten_thousand_scalars_stay_small(tmp_path: Path) -> None:
    """8 rows of 6 pictures, as detailed as photographs: the board takes less than 25 MB."""
    board, rng = Board(tmp_path), np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 255, (68, 50, 3)), np.ones((16, 16, 1)))
    grid = (coarse + rng.normal(0, 6, coarse.shape)).clip(0, 255).astype(np.uint8)
    for step in range(10_000):
        board.log_metrics({"train/loss": 0.1}, step)
        if step % 100 == 0:
            add_picture(board.experiment, "eval/pictures", grid, step)
    board.finalize("success")
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 1_000_000 < size < 25_000_000
    shown = _events(tmp_path).Images("eval/pictures")
    assert len(shown) == 100
    assert (shown[0].width, shown[0].height) == (800, 1088)
    assert shown[0].encoded_image_string[:3] == b"\xff\xd8\xff"

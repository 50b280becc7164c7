from types import SimpleNamespace
from typing import Any

import torch

from h2d.progress import LossTrend, StepProgress


def _trainer(**changes: Any) -> Any:
    values = {"global_step": 0, "max_steps": 6, "is_global_zero": True}
    return SimpleNamespace(**{**values, "callback_metrics": {"train/loss": torch.tensor(0.5)}, **changes})


def test_lines_in_a_log_count_optimiser_steps_and_not_batches(capsys: Any) -> None:
    progress, trainer = StepProgress(every_n_steps=2), _trainer()
    progress.on_train_start(trainer, None)  # type: ignore[arg-type]
    for batch in range(12):
        trainer.global_step = (batch + 1) // 2  # two batches a step
        progress.on_train_batch_end(trainer, None, None, None, batch)  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 2 of 6", "step 4 of 6", "step 6 of 6"]
    assert all("loss 0.5000" in line and "steps/s" in line for line in lines)


def test_other_ranks_are_silent(capsys: Any) -> None:
    progress, trainer = StepProgress(1), _trainer(is_global_zero=False)
    progress.on_train_start(trainer, None)  # type: ignore[arg-type]
    trainer.global_step = 1
    progress.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress, trainer = StepProgress(1), _trainer()
    progress.on_train_start(trainer, None)  # type: ignore[arg-type]
    trainer.global_step = 6
    progress.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    progress.on_train_end(trainer, None)  # type: ignore[arg-type]
    captured = capsys.readouterr()
    assert "6/6" in captured.err
    assert captured.out == ""


def test_the_end_tells_how_far_the_losses_moved(capsys: Any) -> None:
    trend, trainer = LossTrend(every_n_steps=2), _trainer(max_steps=20)
    for step in range(1, 21):
        trainer.global_step = step
        values = {"train/loss": float(step), "train/lr": 0.1, "val/loss": 0.0}
        trainer.callback_metrics = {name: torch.tensor(value) for name, value in values.items()}
        trend.on_train_batch_end(trainer, None, None, None, step)  # type: ignore[arg-type]
        if step in (5, 15, 20):
            trainer.callback_metrics["val/loss"] = torch.tensor(1.0 / step)
            trend.on_validation_end(trainer, None)  # type: ignore[arg-type]
    trend.on_train_end(trainer, None)  # type: ignore[arg-type]
    assert capsys.readouterr().out == (
        "losses, first and last 4 steps: loss 3.0000 -> 19.0000\n"
        "validation losses, steps 5 and 20: loss 0.2000 -> 0.0500\n"
    )


def _run(trend: LossTrend, losses: list[float], batches_per_step: int = 1, skipped: int = 0) -> None:
    trainer = _trainer(max_steps=len(losses))
    trend.on_train_start(trainer, None)  # type: ignore[arg-type]
    for batch in range(len(losses) * batches_per_step):
        trainer.global_step = step = (batch + 1) // batches_per_step
        trainer.callback_metrics = {"train/loss": torch.tensor(losses[max(step - 1, 0)])}
        trend.on_train_batch_end(trainer, None, None, None, batch)  # type: ignore[arg-type]
    trainer.callback_metrics |= {"train/skipped": torch.tensor(float(skipped)), "train/grad_norm": torch.tensor(1.0)}
    trend.on_train_end(trainer, None)  # type: ignore[arg-type]


def test_steps_that_were_left_out_do_not_spoil_the_means(capsys: Any) -> None:
    losses = [1.0, float("nan"), 2.0, 3.0, 5.0, 5.0, 5.0, float("inf"), 7.0, 8.0]
    _run(LossTrend(every_n_steps=1), losses, skipped=2)
    assert capsys.readouterr().out == (
        "losses, first and last 2 steps: loss 1.0000 -> 7.5000\n"
        "steps left out, because their gradient was not finite: 2\n"
    )


def test_losses_are_read_once_every_n_steps_and_not_with_every_batch(monkeypatch: Any) -> None:
    reads = []
    monkeypatch.setattr(torch.Tensor, "__float__", lambda tensor: reads.append(tensor.item()) or 0.5)
    _run(LossTrend(every_n_steps=5), [0.5] * 20, batches_per_step=4)
    assert len(reads) == 4

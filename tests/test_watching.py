from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from h2d import meters
from h2d.board import Board
from h2d.clock import TrainingClock
from h2d.experiment import CheckpointConfig, DataConfig, EvaluationConfig, Experiment, TrainerConfig
from h2d.meters import FlopMeter, NoiseErrors, take_peak_memory
from h2d.watching import Span, Watch

FETCH = "[_TrainingEpochLoop].train_dataloader_next"


class Time:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


def _events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def test_the_clock_stands_still_from_a_stop_to_the_next_fetch() -> None:
    clock = TrainingClock(moment := Time())
    moment.passes(7)
    for fetch, step, pause in ((1, 2, 100), (3, 4, 1000)):
        clock.start(FETCH)
        moment.passes(fetch)
        clock.stop(FETCH)
        clock.start("run_training_batch")
        moment.passes(step)
        clock.stop("run_training_batch")
        clock.lap(go_on=False)
        moment.passes(pause)
    assert (clock.seconds, clock.waited) == (10, 4)


def test_the_clock_that_goes_on_counts_everything() -> None:
    clock = TrainingClock(moment := Time())
    clock.start(FETCH)
    clock.stop(FETCH)
    moment.passes(3)
    clock.lap(go_on=True)
    clock.reset()
    moment.passes(2)
    clock.lap(go_on=True)
    assert clock.seconds == 2


def test_noise_errors_fall_into_four_buckets() -> None:
    noise = NoiseErrors("cpu")
    noise.add(torch.tensor([0, 249, 250, 999]), torch.tensor([1.0, 2.0, 4.0, 8.0]))
    noise.add(torch.tensor([749, 999]), torch.tensor([float("nan"), 16.0]))
    sums, counts = noise.take()
    assert sums.tolist() == [3, 4, 0, 24]
    assert counts.tolist() == [2, 1, 0, 2]
    assert not noise.take().any()
    assert noise.names == ("t_000_249", "t_250_499", "t_500_749", "t_750_999")


def test_operations_of_the_first_batch_are_counted_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(meters, "_most_flops", lambda device, precision: 1000)
    meter, layer = FlopMeter(torch.device("cpu"), "32-true", compiled=False), nn.Linear(3, 5)
    for _ in range(2):
        meter.start()
        layer(torch.zeros(7, 3)).sum().backward()
        meter.stop()
    assert meter.counted == 2 * 2 * 7 * 3 * 5  # multiply and add; forward, and the gradient of the weights


def test_a_cpu_has_no_known_peak() -> None:
    meter = FlopMeter(torch.device("cpu"), "bf16-mixed", compiled=False)
    meter.start()
    meter.stop()
    assert meter.most is meter.counted is None
    assert 50e6 < take_peak_memory(torch.device("cpu")) < 50e9


class Run(L.LightningModule):
    """Two samples a batch at time steps 100 and 999; a second to load a sample, three to train a batch."""

    def __init__(self, moment: Time) -> None:
        super().__init__()
        self.weight, self.moment = nn.Parameter(torch.zeros(1)), moment

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> dict[str, torch.Tensor]:
        self.moment.passes(3)
        errors = torch.tensor([0.5, 2.0 + (self.global_step >= 20)])
        return {"loss": self.weight.sum(), "timesteps": torch.tensor([100, 999]), "errors": errors}

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.moment.passes(100)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Slow(torch.utils.data.Dataset[int]):
    def __init__(self, moment: Time) -> None:
        self.moment = moment

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> int:
        self.moment.passes(1)
        return index


class Sampling(L.Callback):
    """Takes its time after every seventh step."""

    def __init__(self, moment: Time) -> None:
        self.moment, self.last = moment, 0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step % 7 == 0 and trainer.global_step != self.last:
            self.moment.passes(1000)
        self.last = trainer.global_step


def _watched(tmp_path: Path, steps: int, capsys: Any, every: int = 10) -> tuple[dict[str, dict[int, float]], str]:
    """Scalars by name and step, and what was printed."""
    experiment = Experiment(
        task="hand",
        data=DataConfig(batch_size=2),
        trainer=TrainerConfig(global_batch=4, log_every_n_steps=every, val_every_n_steps=5),
        checkpoint=CheckpointConfig(every_n_steps=6),
        evaluation=EvaluationConfig(every_n_steps=7),
    )
    moment, watch = Time(), Watch(experiment)
    watch._clock = TrainingClock(moment)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=experiment.accumulation,
        val_check_interval=5 * experiment.accumulation,
        check_val_every_n_epoch=None,
        limit_val_batches=2,
        log_every_n_steps=every,
        logger=Board(tmp_path),
        callbacks=[watch, Sampling(moment)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train, val = (torch.utils.data.DataLoader(Slow(clock), batch_size=2) for clock in (moment, Time()))
    trainer.fit(Run(moment), train, val)
    events = _events(tmp_path)
    scalars = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    return scalars, capsys.readouterr().out


def test_speed_leaves_out_warm_up_validation_and_sampling(tmp_path: Path, capsys: Any) -> None:
    scalars, printed = _watched(tmp_path, 40, capsys)
    for name, value in (("samples_per_s", 0.4), ("step_s", 10), ("data_wait", 0.4)):
        assert scalars[f"speed/{name}"] == pytest.approx({19: value, 29: value, 39: value})
    assert "speed/mfu" not in scalars
    assert printed.splitlines()[-1].startswith("speed: 0.4 samples/s, data wait 40 %, peak memory ")


def test_noise_is_shown_by_time_step_from_the_start(tmp_path: Path, capsys: Any) -> None:
    scalars, _ = _watched(tmp_path, 30, capsys)
    noise = {name: values for name, values in scalars.items() if name.startswith("noise/")}
    assert noise == {"noise/t_000_249": dict.fromkeys((9, 19, 29), 0.5), "noise/t_750_999": {9: 2, 19: 2, 29: 3}}
    assert scalars["memory/peak_gb"].keys() == {9, 19, 29}


def test_a_short_run_says_that_its_speed_is_unknown(tmp_path: Path, capsys: Any) -> None:
    scalars, printed = _watched(tmp_path, 9, capsys, every=1)
    assert "speed/step_s" not in scalars
    assert printed.splitlines()[-1].startswith("speed: not measured, which takes more than 10 steps, peak memory ")


def test_known_devices_have_a_utilisation(monkeypatch: Any) -> None:
    monkeypatch.setattr(meters, "_most_flops", lambda device, precision: 1000)
    experiment = Experiment(task="hand", data=DataConfig(batch_size=2), trainer=TrainerConfig(global_batch=4))
    watch = Watch(experiment)
    watch._flops = FlopMeter(torch.device("cpu"), "32-true", compiled=False)
    watch._flops.counted = 600
    speed = watch.speed(Span(seconds=10, waited=1, batches=5), world_size=3)
    assert speed == pytest.approx({"samples_per_s": 3.0, "step_s": 4.0, "data_wait": 0.1, "mfu": 0.3})

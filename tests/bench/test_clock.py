from __future__ import annotations

import pytest
import torch

from h2d.bench.clock import Timing, at_least_one, by_turns, clock_of, unit_of
from h2d.errors import ConfigError


def test_a_timing_is_a_median_and_its_quartiles() -> None:
    assert Timing.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Timing(3.0, 1.5, 4.5, 5)
    assert Timing.of([2.0]) == Timing(2.0, 2.0, 2.0, 1)


def test_ways_take_turns() -> None:
    order: list[str] = []

    def way(name: str, seconds: float) -> list[float]:
        order.append(name)
        return [seconds]

    timings = by_turns({"a": lambda: way("a", 1), "b": lambda: way("b", 2)}, rounds=3)
    assert order == ["a", "b"] * 3
    assert timings["b"] == Timing(2, 2, 2, 3)


def test_without_a_gpu_only_work_is_counted() -> None:
    import time

    cpu = torch.device("cpu")
    now = clock_of(cpu)
    start = now()
    time.sleep(0.3)
    assert now() - start < 0.2
    assert unit_of(cpu) == "CPU s"


def test_nothing_to_measure() -> None:
    with pytest.raises(ConfigError, match="--rounds has to be at least 1, not 0"):
        at_least_one(steps=1, rounds=0)

"""What time is measured in, and what is made of many measurements."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from h2d.errors import ConfigError


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds: of the wall after the device has done its work, or without a GPU of this process's CPU time.

    CPU time does not count what other programs of a shared machine take.
    """
    if device.type != "cuda":
        return time.process_time

    def wall() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return wall


def unit_of(device: torch.device) -> str:
    """What the clock counts."""
    return "s" if device.type == "cuda" else "CPU s"


@dataclass(frozen=True)
class Timing:
    """Many measurements of one thing.

    Args:
        median: seconds.
        low: lower quartile.
        high: upper quartile.
        count: of measurements.
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Of measured seconds, at least one."""
        low, _, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else (seconds[0],) * 3
        return cls(statistics.median(seconds), low, high, len(seconds))


def by_turns(ways: Mapping[str, Callable[[], Sequence[float]]], rounds: int) -> dict[str, Timing]:
    """Measure several ways one after the other, again and again, so that what disturbs the machine disturbs all.

    Args:
        ways: each returns the seconds of some repetitions, without those that warm up.
        rounds: of all ways.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(1, rounds + 1):
        for name, way in ways.items():
            print(f"round {turn} of {rounds}: {name}", file=sys.stderr, flush=True)
            seconds[name] += way()
    return {name: Timing.of(taken) for name, taken in seconds.items()}


def at_least_one(**numbers: int) -> None:
    """Refuse options that leave nothing to measure.

    Raises:
        ConfigError: naming the option.
    """
    for name, value in numbers.items():
        if value < 1:
            raise ConfigError(f"--{name} has to be at least 1, not {value}")

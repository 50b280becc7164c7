"""Several commands in one folder at a time: together they do the work of one, with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COMMANDS = 4


@pytest.fixture
def four(whole: Any, start: Any) -> Callable[..., list[subprocess.Popen[str]]]:
    """Starts four commands at once, all alike or each with its share of the work."""

    def begin(out: Path, jobs: int = 1, *, slices: bool = False) -> list[subprocess.Popen[str]]:
        parts = [[f"slice={number}/{COMMANDS}"] if slices else [] for number in range(COMMANDS)]
        return [start(*whole.words, f"jobs={jobs}", f"out={out}", *part) for part in parts]

    return begin


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What each command said; all must have ended well."""
    texts = [process.communicate(timeout=90)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), texts
    return texts


def difference(files: dict[str, bytes], whole: Any) -> list[str]:
    return sorted(name for name in files.keys() | whole.files.keys() if files.get(name) != whole.files.get(name))


def test_one_of_four_equal_commands_is_killed_and_the_others_do_the_rest(
    whole: Any, four: Any, content: Any, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    processes = four(tmp_path)
    while not list(tmp_path.glob("keypoints/*.tar")):
        time.sleep(0.01)
        assert all(process.poll() is None for process in processes)
    victim = processes.pop(1)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=30)
    outputs(processes)
    done = sum(1 for _ in tmp_path.glob("keypoints/*.tar"))
    leftovers = list(tmp_path.glob("**/.*.tmp"))
    outputs(four(tmp_path))
    assert not list(tmp_path.glob("**/.*.tmp"))
    assert difference(content(tmp_path), whole) == []
    figures(f"1 of {COMMANDS} killed, {done} chunks all there, {len(leftovers)} leftovers cleared; byte-identical")


def test_four_equal_commands(
    whole: Any, four: Any, content: Any, tmp_path: Path, long: bool, figures: Callable[[str], None]
) -> None:
    if not long:
        pytest.skip("the long form only (--proof)")
    for number in range(5):
        outputs(four(tmp_path / str(number), jobs=1 + number % 2))
        assert difference(content(tmp_path / str(number)), whole) == []
    figures(f"5 times {COMMANDS} commands at once: 0 lost, 0 doubled; byte-identical")


def test_four_shares_of_the_work(
    whole: Any, four: Any, content: Any, tmp_path: Path, long: bool, figures: Callable[[str], None]
) -> None:
    rounds = 5 if long else 1
    for number in range(rounds):
        texts = outputs(four(tmp_path / str(number), slices=True))
        assert any("shards: " in text for text in texts), "the last one packs"
        assert difference(content(tmp_path / str(number)), whole) == []
    figures(f"{rounds} times {COMMANDS} shares at once, the last one packs: byte-identical")

"""SIGKILL at any moment: the same command goes on, and ends with the bytes of a run that nothing disturbed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.chunks import read_head

CHUNKS = "[kmcf]*/*.tar"
"""Chunks of keypoints, masks, captions and filter."""


def kill(process: subprocess.Popen[str], moment: float, *, group: bool) -> int:
    """End a command, and its workers with it or not, at a moment of its run; gives its exit code."""
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)  # ends when the last worker has let go of the pipe
    return process.returncode


def finished(out: Path) -> dict[Path, tuple[int, int]]:
    """The chunks that are complete, with what changes when they are written again."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob(CHUNKS)}


class Killed:
    """Kills a command again and again and lets it go on; a folder that got complete is judged and begun anew."""

    def __init__(self, start: Callable[..., subprocess.Popen[str]], content: Callable[..., Any], whole: Any) -> None:
        self.start, self.content, self.whole = start, content, whole
        self.seen: Counter[str] = Counter()

    def run(self, out: Path, kills: int) -> None:
        rng, before = random.Random(kills), dict[Path, tuple[int, int]]()
        while self.seen["kills"] < kills:
            moment = self.whole.seconds * (self.seen["kills"] + rng.random()) / kills
            process = self.start(*self.whole.words, "jobs=2", f"out={out}")
            code = kill(process, moment, group=self.seen["kills"] % 2 == 0)
            assert code in (0, -signal.SIGKILL)
            assert before.items() <= finished(out).items(), "what was finished is never done again"
            before = finished(out)
            if code == 0:
                self.judge(out)
                before = {}
            else:
                self.seen.update(kills=1, kept=len(before), leftovers=len(list(out.glob("**/.*.tmp"))))
        process = self.start(*self.whole.words, "jobs=2", f"out={out}")
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        self.judge(out)

    def judge(self, out: Path) -> None:
        self.seen["runs"] += 1
        assert self.content(out) == self.whole.files
        shutil.rmtree(out)


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(
    whole: Any, start: Any, content: Any, tmp_path: Path, long: bool, figures: Callable[[str], None]
) -> None:
    killed = Killed(start, content, whole)
    killed.run(tmp_path / "out", 20 if long else 3)
    heads = [read_head(path) for path in (whole.out / "filter").glob("*.tar")]
    assert sum(head.counts.read for head in heads) == 9, "the bytes that were compared are those of all nine"
    assert 0 < sum(head.counts.written for head in heads) < 9
    figures(figure_line(killed.seen))


def test_mediapipe_is_killed(
    undisturbed: Callable[..., Any],
    start: Any,
    content: Any,
    tmp_path: Path,
    long: bool,
    figures: Callable[[str], None],
) -> None:
    if not long:
        pytest.skip("the long form only (--proof)")
    killed = Killed(start, content, undisturbed("keypoints=mediapipe"))
    killed.run(tmp_path / "out", 5)
    figures(figure_line(killed.seen))


def figure_line(seen: Counter[str]) -> str:
    return (
        f"{seen['kills']} SIGKILLs in {seen['runs']} runs, {seen['leftovers']} temporary files met,"
        f" {seen['kept']} finished chunks kept, 0 done again; all files byte-identical"
    )

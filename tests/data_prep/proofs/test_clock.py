"""A clock that jumps, and files from the future: no decision depends on the time of day."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DAY = 86400
SHIFT = """
# Python runs this file before anything else, in the worker processes too
import itertools, os, time

jump = itertools.cycle([{days}])
real, real_ns, steady = time.time, time.time_ns, time.monotonic
time.time = lambda: real() + 86400 * next(jump)
time.time_ns = lambda: real_ns() + 86400 * 10**9 * next(jump)
time.monotonic = lambda: steady() + {steady}
with open(os.path.join(os.path.dirname(__file__), "seen"), "a") as file:
    file.write(f"{{time.time() - real():.0f}}\\n")
"""
CLOCKS = {"a day late": ("1", DAY), "a day early": ("-1", -DAY), "jumping": ("1, -1, 0", 0)}


def test_the_clock_does_not_matter(
    whole: Any, people: Path, start: Any, content: Any, tmp_path: Path, long: bool, figures: Callable[[str], None]
) -> None:
    root = tmp_path / "raw"
    shutil.copytree(people, root)
    for path in root.rglob("*"):
        os.utime(path, (time.time() + DAY, time.time() + DAY))
    clocks = CLOCKS if long else {"jumping": CLOCKS["jumping"]}
    expected = shards(whole.files)
    for name, (days, steady) in clocks.items():
        place = tmp_path / name
        place.mkdir()
        (place / "sitecustomize.py").write_text(SHIFT.format(days=days, steady=steady))
        words = [word if not word.startswith("root=") else f"root={root}" for word in whole.words]
        for _ in range(2):
            process = start(*words, "jobs=2", f"out={place / 'out'}", PYTHONPATH=str(place))
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output
            assert shards(content(place / "out")) == expected
        assert output.count("nothing to do") == 6, "what is there counts, not how old it is"
        shifts = (place / "seen").read_text().split()
        assert len(shifts) >= 4, "the command and its workers ran with the wrong clock"
        assert {abs(int(shift)) for shift in shifts} == {DAY}
    figures(f"{len(clocks)} clocks ({', '.join(clocks)}), files from tomorrow: shards byte-identical")


def shards(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith("shards/")}

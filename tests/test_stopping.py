"""Requests to stop, in processes of their own: what is blocked here would stay blocked for the other tests."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HELD = "import os, signal, sys; from h2d.stopping import *; hold_requests(); me = os.getpid(); "


def run(code: str, *before: str) -> str:
    done = subprocess.run([*before, sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_a_request_waits_until_it_is_asked_for() -> None:
    code = HELD + "print(stop_requested()); os.kill(me, signal.{}); print(stop_requested(), stop_requested())"
    for name in ("SIGUSR1", "SIGTERM"):
        assert run(code.format(name)).split() == ["False", "True", "True"]


def test_nothing_is_requested_where_nothing_is_held() -> None:
    code = "import os, signal; from h2d.stopping import *; signal.signal(signal.SIGUSR1, lambda *_: None); "
    assert run(code + "os.kill(os.getpid(), signal.SIGUSR1); print(stop_requested())") == "False"


def test_a_request_from_before_python_was_there_is_kept() -> None:
    code = (
        "import os, signal; os.kill(os.getpid(), signal.SIGUSR1); from h2d.stopping import *; print(stop_requested())"
    )
    assert run(code, "env", "--block-signal=USR1") == "True"


def test_a_request_is_not_lost_when_python_lets_it_through() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); from h2d.stopping import *; hold_requests(); "
    assert run(code + "print(stop_requested())", "env", "--block-signal=TERM") == "True"


def test_work_ends_between_two_items() -> None:
    code = (
        "seen = []\n"
        "try:\n"
        "    for item in until_requested(range(9)):\n"
        "        seen.append(item)\n"
        "        if item == 2: os.kill(me, signal.SIGUSR1)\n"
        "except StoppedError as stop:\n"
        "    print(seen, stop.exit_code)\n"
    )
    assert run(HELD.replace("; ", "\n") + code) == "[0, 1, 2] 75"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_neither_die_of_a_request_nor_keep_their_parent(method: str) -> None:
    """Slurm signals every process of a step; Python ends what is left of its children with SIGTERM, which waits."""
    code = (
        "import multiprocessing, time\n"
        f"child = multiprocessing.get_context({method!r}).Process(target=time.sleep, args=(60,), daemon=True)\n"
        "child.start()\n"
        "for number in (signal.SIGUSR1, signal.SIGTERM): os.kill(child.pid, number)\n"
        "child.join(1)\n"
        "print(child.is_alive())\n"
        "os.kill(me, signal.SIGTERM)\n"
        "print(stop_requested() and signal.SIGTERM in signal.sigpending())\n"
        "end_children()\n"
        "child.join()\n"
        "print(-child.exitcode)\n"
    )
    assert run(HELD.replace("; ", "\n") + code).split() == ["True", "True", str(int(signal.SIGKILL))]

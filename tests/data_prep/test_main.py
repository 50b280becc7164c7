"""The command itself: what it prints, how it ends, what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from data_prep.__main__ import main


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "data_prep", *words]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pak", "folder"], "error: there is no stage 'pak'\n  hint: did you mean pack?"),
        (["pack", "foldr"], "error: there is no data set 'foldr'\n  hint: did you mean folder?"),
        (["all", "folder", "jbos=2"], "error: there is no key 'jbos'\n  hint: did you mean jobs?"),
        (["all", "folder", "--jobs", "2"], "error: unknown option --jobs\n  hint: did you mean jobs=VALUE?"),
        (["all", "folder"], "error: folder needs root=, the folder of the raw data"),
        (["all", "folder", "root=/does/not/exist"], "error: root=/does/not/exist does not exist"),
        (["generate", "folder"], "error: folder brings its own images"),
        (["all", "synthetic", "out=/does/not/exist"], "  hint: python -m data_prep generate synthetic out=/does"),
    ],
)
def test_wrong_input_ends_with_2_and_says_what_and_how(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert "Traceback" not in output.err
    assert output.out == ""


def test_options_that_cannot_work_together(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.jpg").write_bytes((next(people.glob("*/*.jpg"))).read_bytes())
    folder = ["all", "folder", f"root={tmp_path / 'root'}", f"out={tmp_path / 'out'}", "jobs=1"]
    for word, message in (
        ("masks=exact", "folder brings no masks of its own"),
        ("masks=sam", "sam_vit_h_4b8939.pth does not exist"),
        ("captions=llava", "llava=llava-hf/llava-1.5-7b-hf is not on this machine"),
        ("llava=./nowhere", "llava=./nowhere is not on this machine"),
        ("keypoints=exact", "folder brings no keypoints of its own"),
        ("sam_checkpoint=/none/sam_vit_b.pth", "sam_checkpoint=/none/sam_vit_b.pth does not exist"),
        ("out=/proc/none", "cannot write /proc/none"),
    ):
        words = folder if not word.startswith("out=") else [*folder[:3], "jobs=1"]
        words = [*words, "captions=llava"] if word.startswith("llava=") else words
        assert main([*words, word]) == 2
        assert message in capsys.readouterr().err


def test_a_reader_that_has_seen_enough(people: Path, tmp_path: Path) -> None:
    words = ["all", "synthetic", f"root={people}", f"out={tmp_path}", "jobs=1", "keypoints=exact"]
    process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 1


def test_help_is_quick_and_shows_every_key() -> None:
    start = sum(os.times()[2:4])
    done = subprocess.run(command("--help"), capture_output=True, text=True, check=True)
    assert sum(os.times()[2:4]) - start < 3, "CPU seconds, whatever else the machine does"
    assert "min_mask_pixels=400" in done.stdout
    assert "examples:" in done.stdout


def test_nothing_heavy_is_loaded_before_the_input_is_checked() -> None:
    code = (
        "import sys; from data_prep.__main__ import main; main(['all', 'folder', 'jbos=1']);"
        "print([m for m in ('torch', 'mediapipe', 'cv2', 'numba', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_leaves_nothing_half(people: Path, tmp_path: Path, number: int) -> None:
    words = ["all", "synthetic", f"root={people}", f"out={tmp_path}", "jobs=2", "chunk_size=1"]
    process = subprocess.Popen(
        command(*words),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    wait_for(tmp_path, "keypoints/*.tar")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "interrupted: the same command goes on where this one stopped"
    assert not list(tmp_path.glob("**/.*.tmp"))
    assert not (tmp_path / "shards" / "manifest.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_command(tmp_path: Path, number: int) -> None:
    words = ["generate", "synthetic", f"root={tmp_path}", "count=40", "size=64", "jobs=2"]
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(tmp_path, "exact/*/*.json")
    process.send_signal(number)
    process.communicate(timeout=30)  # ends when the last process that inherited the pipe does
    assert process.returncode in (130, -number)


def wait_for(folder: Path, pattern: str) -> None:
    """Wait until a command has left the first file of a kind."""
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.02)

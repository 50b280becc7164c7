"""Disks that take no checkpoint: a clear error, at the start or when saving, and the old checkpoint as it was."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from h2d.checkpoints import AtomicCheckpointIO, read_checkpoint
from h2d.errors import SetupError
from h2d.runs import checkpoint_folder, prepare_folder

PAGE = 4096
NOBODY = 65534


def content(number: int) -> dict[str, object]:
    weights = np.full((5, 50_000), number, np.float32)  # torch's own threads do not outlive a fork
    return {
        "state_dict": {f"layer{row}": torch.from_numpy(values) for row, values in enumerate(weights)},
        "hyper_parameters": {"number": number},
    }


def first_checkpoint(run: Path) -> Path:
    path = checkpoint_folder(run) / "step-0000001.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(1), path)
    return path


def judge(path: Path, before: bytes) -> None:
    """Nothing but the old checkpoint lies there, and it is good."""
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before
    assert read_checkpoint(path)["hyper_parameters"] == {"number": 1}


def test_the_disk_ends_within_a_checkpoint(
    disk: Callable[[str], Path], long: bool, figures: Callable[[str], None]
) -> None:
    """At the first byte, at the last, and between: on the new file's way and on that of a file of the same name."""
    run = disk("size=20m") / "run"
    path = first_checkpoint(run)
    before = path.read_bytes()
    pages = -(-len(before) // PAGE)
    used = (shutil.disk_usage(run).used) // PAGE
    rooms = range(1, pages) if long else (1, 2, pages // 2, pages - 1)
    for room in rooms:
        disk(f"size={(used + room) * PAGE}")
        for name in ("step-0000002.ckpt", path.name):
            with pytest.raises(SetupError, match=rf"^cannot write .*{name}: No space left on device$"):
                AtomicCheckpointIO().save_checkpoint(content(2), path.with_name(name))
            judge(path, before)
    disk("size=20m")
    AtomicCheckpointIO().save_checkpoint(content(2), path)
    assert read_checkpoint(path)["hyper_parameters"] == {"number": 2}
    figures(
        f"{2 * len(rooms)} saves onto a disk with room for 1 to {pages - 1} of {pages} pages: old one whole each time"
    )


def test_a_full_disk_is_found_at_the_start(disk: Callable[[str], Path]) -> None:
    run = disk("size=1m") / "run"
    prepare_folder(run)
    (run / "data").write_bytes(bytes(shutil.disk_usage(run).free))
    with pytest.raises(SetupError, match=r"cannot write .*: No space left on device"):
        prepare_folder(run)
    assert os.listdir(checkpoint_folder(run)) == []


def test_what_killed_writers_left_is_room(disk: Callable[[str], Path]) -> None:
    run = disk("size=1m") / "run"
    prepare_folder(run)
    leftover = checkpoint_folder(run) / ".step-0000001.ckpt.other-0123abcd.tmp"
    leftover.write_bytes(bytes(shutil.disk_usage(run).free))
    prepare_folder(run)
    assert not leftover.exists()


def test_a_read_only_disk(disk: Callable[[str], Path]) -> None:
    run = disk("size=20m") / "run"
    path = first_checkpoint(run)
    before = path.read_bytes()
    disk("ro")
    for attempt in (lambda: prepare_folder(run), lambda: AtomicCheckpointIO().save_checkpoint(content(2), path)):
        with pytest.raises(SetupError, match="cannot write"):
            attempt()
        judge(path, before)


def try_as_nobody(run: Path, answers: Connection) -> None:
    os.chdir(run)  # the folders above are closed to others
    if os.getuid() == 0:
        os.setuid(NOBODY)  # root may write anywhere
    target = checkpoint_folder(Path()) / "step-0000002.ckpt"
    messages = []
    for attempt in (lambda: prepare_folder(Path()), lambda: AtomicCheckpointIO().save_checkpoint(content(2), target)):
        try:
            attempt()
        except SetupError as error:
            messages.append(error.message)
    answers.send(messages)


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    path = first_checkpoint(run)
    before = path.read_bytes()
    path.parent.chmod(0o555)
    answers, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=try_as_nobody, args=(run, there), daemon=True)
    process.start()
    assert answers.poll(60)
    assert answers.recv() == ["cannot write into checkpoints: permission denied"] * 2
    process.join(timeout=30)
    path.parent.chmod(0o755)
    judge(path, before)


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    """What was trained is worth more than the order in which somebody tidied up."""
    path = first_checkpoint(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    AtomicCheckpointIO().save_checkpoint(content(2), path)
    assert read_checkpoint(path)["hyper_parameters"] == {"number": 2}
    assert os.listdir(path.parent) == [path.name]

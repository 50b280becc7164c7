"""A disk that is full at any byte: the file is named, nothing is half, and with room come the same bytes."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main

PAGE = 4096


@pytest.fixture
def sized(disk: Callable[[str], Path]) -> Callable[..., Path]:
    """Gives a file system of so many pages and files, or changes it."""
    return lambda pages, files=1000: disk(f"size={pages * PAGE},nr_inodes={files}")


def in_order(whole: Any) -> list[tuple[str, int]]:
    """The files of a run in the order in which one process writes them, with their pages; empty ones need none."""
    paths = sorted((path for path in whole.out.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    sized = [(str(path.relative_to(whole.out)), -(-path.stat().st_size // PAGE)) for path in paths]
    return [(name, pages) for name, pages in sized if pages]


@pytest.fixture(scope="session")
def alone(whole: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same run by a single process, whose files come in one order."""
    out = tmp_path_factory.mktemp("alone")
    assert prepare(whole, out) == 0
    return type(whole)(whole.words, 0.0, out, whole.files)


def prepare(whole: Any, out: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_DIR", "/dev/null")
        return main([*whole.words, "jobs=1", f"out={out}"])


def judge(name: str, out: Path, files: dict[str, bytes], whole: Any, output: Any) -> None:
    """What a full disk must leave: an error that names the file, and the files before it, as they should be."""
    first, *others = output.err.strip().splitlines()
    assert first.startswith(f"error: cannot write {out / name}: "), output.err
    assert len(others) == 1
    assert others[0].startswith("  hint: is the place writable, and the disk not full?")
    assert name not in files
    assert files.items() <= whole.files.items(), "nothing half under a final name, nothing temporary"


def test_the_disk_ends_within_any_file(
    alone: Any, sized: Callable[..., Path], content: Any, capsys: Any, long: bool, figures: Callable[[str], None]
) -> None:
    order = in_order(alone)
    wanted = range(1, len(order)) if long else [names(order).index(name) for name in chosen(order)]
    seen = set()
    for number in wanted:
        name, pages = order[number]
        before = sum(size for _, size in order[:number])
        for missing in {1, pages} if long else {1}:
            out = sized(before + pages - missing) / "out"
            assert prepare(alone, out) == 2
            judge(name, out, content(out), alone, capsys.readouterr())
            sized(10_000)
            assert prepare(alone, out) == 0
            assert content(out) == alone.files
            subprocess.run(["umount", str(out.parent)], check=True)
            seen.add((name, missing))
    kinds = sorted({name.partition("/")[0] for name, _ in seen})
    figures(f"{len(seen)} full disks, in {len(kinds)} folders ({', '.join(kinds)}): each file named, 0 half files")


def test_the_disk_takes_no_more_files(
    alone: Any, sized: Callable[..., Path], content: Any, capsys: Any, long: bool, figures: Callable[[str], None]
) -> None:
    """Folders and locks need room too."""
    count = len(list(alone.out.rglob("*")))
    limits = range(2, count + 2) if long else (2, 3, 4, 11)
    for files in limits:
        out = sized(1000, files) / "out"
        assert prepare(alone, out) == 2
        assert capsys.readouterr().err.startswith(f"error: cannot write {out}/")
        assert content(out).items() <= alone.files.items()
        sized(1000)
        assert prepare(alone, out) == 0
        assert content(out) == alone.files
        subprocess.run(["umount", str(out.parent)], check=True)
    figures(f"{len(limits)} disks without room for another file: each named, 0 half files")


def names(order: list[tuple[str, int]]) -> list[str]:
    return [name for name, _ in order]


def chosen(order: list[tuple[str, int]]) -> list[str]:
    """The index, a chunk, a shard and the manifest."""
    shards = [name for name in names(order) if name.startswith("shards/") and name.endswith(".tar")]
    return ["index.jsonl", "masks/000004.tar", shards[1], "shards/manifest.json"]


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process may become larger, which the system enforces."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_may_not_become_so_large(alone: Any, content: Any, capsys: Any, tmp_path: Path) -> None:
    size = max(len(data) for data in alone.files.values()) - 1
    name = next(name for name, _ in in_order(alone) if len(alone.files[name]) > size)
    with file_limit(size):
        assert prepare(alone, tmp_path) == 2
    judge(name, tmp_path, content(tmp_path), alone, capsys.readouterr())
    assert prepare(alone, tmp_path) == 0
    assert content(tmp_path) == alone.files

"""What the proofs share: real commands in processes of their own, the bytes that they leave, and a line of figures.

Every proof injects a real fault. It has a short form, which is a part of every test run, and a long one: ``--proof``.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from h2d.data.schema import SCHEMA_VERSION, encode_sample
from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
from h2d.files import sha256_of
from h2d.images import encode_png
from h2d.skeleton import RIGHT_HAND

LOCKS = (".lock", ".claims")


def start_command(*words: str, **environment: str) -> subprocess.Popen[str]:
    """``python -m data_prep`` in a process group of its own; it ends for us when its last worker is gone."""
    # the commit of the checkout, a part of the manifest, may change while tests run
    own = {"GIT_DIR": os.devnull, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"} | environment
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=os.environ | own,
    )  # fmt: skip


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts commands; those that a failing test leaves are ended."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*words: str, **environment: str) -> subprocess.Popen[str]:
        begun.append(start_command(*words, **environment))
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def read_tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the locks, by its relative name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in LOCKS)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="session")
def content() -> Callable[[Path], dict[str, bytes]]:
    return read_tree


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbed: its words but ``jobs=`` and ``out=``, its duration, and all that it left."""

    words: tuple[str, ...]
    seconds: float
    out: Path
    files: dict[str, bytes]


@pytest.fixture(scope="session")
def undisturbed(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Whole]:
    """Prepares nine people with two workers, one a chunk; some are rejected by the filter."""

    def run(*more: str) -> Whole:
        out = tmp_path_factory.mktemp("whole")
        words = ("all", "synthetic", f"root={people}", "chunk_size=1", "shard_size=3", "min_mask_pixels=6500", *more)
        began = time.monotonic()
        process = start_command(*words, "jobs=2", f"out={out}")
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        return Whole(words, time.monotonic() - began, out, read_tree(out))

    return run


@pytest.fixture(scope="session")
def whole(undisturbed: Callable[..., Whole]) -> Whole:
    return undisturbed("keypoints=exact")


def make_sample(number: int) -> tuple[str, dict[str, bytes]]:
    """A noisy picture with a square right hand."""
    key, rng = f"made/{number}", np.random.default_rng(number)
    hands, pose = np.zeros((64, 48), np.uint8), np.zeros((133, 3), np.float32)
    hands[20:40, 10:30], pose[RIGHT_HAND] = 1, (20, 30, 2)
    meta = {
        "schema": SCHEMA_VERSION, "key": key, "source": "made", "split": "train", "subject": str(number),
        "gesture": "palm", "size": [48, 64], "made_by": {"pose": "hand"},
    }  # fmt: skip
    image = encode_png(rng.integers(0, 256, (64, 48, 3), dtype=np.uint8))
    return key, encode_sample(key, image, "png", hands, pose, "a person showing a hand", meta)


@pytest.fixture(scope="session")
def samples() -> list[tuple[str, dict[str, bytes]]]:
    return [make_sample(number) for number in range(4)]


def describe_shard(folder: Path, count: int, name: str = "train-000000.tar") -> Path:
    """Write the manifest that belongs to a shard, whatever is in it; gives the shard."""
    path = folder / name
    info = ShardInfo(name, "train", count, path.stat().st_size, sha256_of(path))
    write_manifest(folder, Manifest((info,), {"made": count}, {}))
    return path


@pytest.fixture(scope="session")
def describe() -> Callable[..., Path]:
    return describe_shard


@pytest.fixture
def shard(tmp_path: Path, samples: list[tuple[str, dict[str, bytes]]]) -> Path:
    """A good shard in a folder with its manifest."""
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "train-000000.tar", samples)
    return describe_shard(folder, len(samples))


def make_png(width: int, height: int) -> bytes:
    """A whole picture of one bit a pixel, however large."""
    packer, row = zlib.compressobj(1), bytes(1 + -(-width // 8))
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    chunks = (struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c)) for name, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture(scope="session")
def blank_png() -> Callable[[int, int], bytes]:
    return make_png


SENTINEL = "it_ran"


class Payload:
    """Unpickling it leaves a file in the working directory."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {SENTINEL}",)


@pytest.fixture(scope="session")
def payload() -> Payload:
    return Payload()


@pytest.fixture
def sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that a payload makes in the working directory; in the end it must be missing, and the payload armed."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    yield place / SENTINEL
    assert not (place / SENTINEL).exists()
    pickle.loads(pickle.dumps(Payload()))
    assert (place / SENTINEL).exists()

from __future__ import annotations

import hashlib
import io
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from h2d.errors import CheckpointError
from h2d.seals import SealedFile, check_seal

Seal = Callable[[Any, Path], Path]
CONTENT = {"state_dict": {"w": torch.arange(300.0), "b": torch.ones(5)}, "hyper_parameters": {"task": "hand"}}


def test_the_comment_is_the_sum_over_what_stands_before_it(seal: Seal, tmp_path: Path) -> None:
    path = seal(CONTENT, tmp_path / "a.ckpt")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        comment = archive.comment
    content = path.read_bytes().removesuffix(comment)
    assert comment == b"h2d sha256 " + hashlib.sha256(content).hexdigest().encode()
    assert int.from_bytes(content[-2:], "little") == len(comment)
    check_seal(path)


@pytest.mark.parametrize("mapped", [False, True])
def test_torch_reads_a_sealed_file(mapped: bool, seal: Seal, tmp_path: Path) -> None:
    loaded = torch.load(str(seal(CONTENT, tmp_path / "a.ckpt")), weights_only=True, mmap=mapped)
    assert torch.equal(loaded["state_dict"]["w"], torch.arange(300.0))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_the_pieces_in_which_it_is_written_do_not_matter(size: int, tmp_path: Path) -> None:
    plain = io.BytesIO()
    torch.save(CONTENT, plain)
    with open(tmp_path / "a.ckpt", "wb") as file:
        sealed = SealedFile(file)
        for start in range(0, len(plain.getvalue()), size):
            sealed.write(plain.getvalue()[start : start + size])
        sealed.seal()
    check_seal(tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes()[: len(plain.getvalue()) - 2] == plain.getvalue()[:-2]


def test_flipped_bits_and_cut_ends(seal: Seal, tmp_path: Path, long: bool, figures: Callable[[str], None]) -> None:
    """Any bit, any length in the long form; torch itself takes most of the flips for good."""
    path = seal(CONTENT, tmp_path / "a.ckpt")
    good, rng = path.read_bytes(), random.Random(0)
    bits = range(len(good) * 8) if long else rng.sample(range(len(good) * 8), 100)
    refused, unnoticed = 0, 0
    for bit in bits:
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        refused += is_refused(path)
        unnoticed += not long or torch_takes(path)
    lengths = range(len(good)) if long else rng.sample(range(len(good)), 20)
    for length in lengths:
        path.write_bytes(good[:length])
        refused += is_refused(path)
    assert refused == len(bits) + len(lengths)
    figures(
        f"{len(bits)} flipped bits and {len(lengths)} cut files: {refused} refused;"
        f" torch.load alone takes {unnoticed} of the flips"
    )


def is_refused(path: Path) -> bool:
    try:
        check_seal(path)
    except CheckpointError as error:
        return str(path) in error.message and "damaged" in error.message
    return False


def torch_takes(path: Path) -> bool:
    try:
        torch.load(path, weights_only=True)
    except Exception:
        return False
    return True


def test_bytes_after_the_end(seal: Seal, tmp_path: Path) -> None:
    path = seal(CONTENT, tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(CheckpointError, match="no checksum at its end"):
        check_seal(path)


def test_a_file_without_a_seal(tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / "plain.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint of `h2d train`"):
        check_seal(tmp_path / "plain.ckpt")


@pytest.mark.parametrize("url", ["http://host/a.ckpt", "https:/host/a.ckpt", "s3://bucket/a.ckpt"])
def test_addresses_are_no_files(url: str) -> None:
    with pytest.raises(CheckpointError, match="is an address, not a file"):
        check_seal(Path(url))


def test_missing_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint"):
            check_seal(path)


def test_a_failure_of_the_disk_is_kept(tmp_path: Path) -> None:
    """torch follows it up with an error that does not tell."""
    with open("/dev/full", "wb", buffering=0) if os.path.exists("/dev/full") else pytest.skip("no /dev/full") as file:
        sealed = SealedFile(file)
        with pytest.raises((OSError, RuntimeError)):
            torch.save(CONTENT, sealed)
    assert sealed.failure is not None
    assert sealed.failure.errno == 28

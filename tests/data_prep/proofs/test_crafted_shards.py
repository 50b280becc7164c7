"""Shards made to harm: nothing is written outside, nothing merged or split in silence, and each is named."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from h2d.cli import main
from h2d.data.check import check
from h2d.data.dataset import ShardDataset, ShardLoader
from h2d.data.order import TrainingOrder, ValidationOrder
from h2d.data.schema import decode_sample
from h2d.data.shards import iter_samples
from h2d.errors import DataError

Entry = tuple[str, bytes] | tarfile.TarInfo


def members(sample: tuple[str, dict[str, bytes]], key: str = "") -> list[Entry]:
    return [(f"{key or sample[0]}.{extension}", content) for extension, content in sample[1].items()]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.devmajor, info.devminor = kind, target, 1, 5
    return info


def write(path: Path, entries: list[Entry]) -> None:
    with tarfile.open(path, "w:", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            tar.addfile(info, io.BytesIO(entry[1]))


def crafted(samples: list[tuple[str, dict[str, bytes]]], outside: Path) -> dict[str, tuple[list[Entry], int]]:
    """Name to members, and the number of samples that the manifest says."""
    one, two, other = members(samples[0]), members(samples[1]), members(samples[1], "made/0.v2")
    evil, absolute = members(samples[0], "../../evil"), members(samples[0], f"{outside}/evil")
    link = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "fifo": tarfile.FIFOTYPE}
    specials = {kind: [*one[:-1], special(one[-1][0], code, str(outside))] for kind, code in link.items()}
    extras = {f"more {kind}": [*one, special("made/0.jpg", code, str(outside))] for kind, code in link.items()}
    listed = specials | extras | {
        "path upwards": evil,
        "absolute path": absolute,
        "file upwards": [*one, ("../../evil.jpg", b"x")],
        "dots in a key": members(samples[0], "made/0.v1"),
        "adjacent duplicate": [one[0], *one],
        "split sample": [*one[:2], *two, *one[2:]],
        "no extension": [*one, ("made/0", b"x")],
        "another member": [*one, ("made/0.jpg.exe", b"x")],
    }  # fmt: skip
    counted = {"merged samples": ([*one, *other], 2), "two in one": ([*one, *other], 1)}
    twice = {"duplicate, not adjacent": ([*one, *two, *one], 3), "duplicate sample": ([*one, *one], 2)}
    return {name: (entries, 1) for name, entries in listed.items()} | counted | twice


READ_ON = ("more link", "more hard link", "more device", "more fifo", "no extension", "duplicate, not adjacent")
"""What a training may read: what is no file adds nothing to a sample, and a whole sample that comes again is whole."""


def see(raw: Mapping[str, Any], draw: object) -> dict[str, object]:
    return {"key": decode_sample(raw).key}


def read_for_training(folder: Path, count: int) -> None:
    """As a training reads: at random and without end, in order, and in a worker process."""
    dataset = ShardDataset(folder, "train", see)
    list(islice(ShardLoader(dataset, batch_sampler=TrainingOrder(count, seed=0, batch_size=1)), count))
    list(ShardLoader(dataset, batch_sampler=ValidationOrder(count, batch_size=1)))
    list(ShardLoader(dataset, batch_sampler=ValidationOrder(count, batch_size=1), num_workers=1))


def test_every_crafted_shard_is_named_by_check_and_stops_a_training(
    samples: Any, describe: Callable[..., Path], tmp_path: Path, capsys: Any, figures: Callable[[str], None]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    before = set(tmp_path.rglob("*"))
    cases = crafted(samples, outside)
    for number, (name, (entries, count)) in enumerate(cases.items()):
        folder = tmp_path / "deep" / str(number)
        folder.mkdir(parents=True)
        write(folder / "train-000000.tar", entries)
        describe(folder, count)
        there = set(tmp_path.rglob("*"))
        problems = check(folder)
        assert problems, name
        assert all("train-000000.tar" in problem for problem in problems), (name, problems)
        assert main(["data", "check", str(folder)]) == 2
        assert "Traceback" not in capsys.readouterr().err
        if name in READ_ON:
            read_for_training(folder, count)
        else:
            with pytest.raises(DataError, match=r"train-000000\.tar"):
                read_for_training(folder, count)
            with pytest.raises(DataError, match=r"train-000000\.tar"):
                list(iter_samples(folder, "train"))
        assert set(tmp_path.rglob("*")) == there, name
    assert {path for path in tmp_path.rglob("*") if "deep" not in path.parts} == before
    stopped = len(cases) - len(READ_ON)
    figures(f"{len(cases)} crafted shards: all named, {stopped} stop a training, 0 files written, 0 samples merged")

"""Shards that hold code: none of it runs, whichever way they are read."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from h2d.cli import main
from h2d.data.dataset import ShardDataset, ShardLoader
from h2d.data.order import TrainingOrder, ValidationOrder
from h2d.data.schema import decode_sample
from h2d.data.shards import MANIFEST, write_tar
from h2d.errors import DataError


def object_array(payload: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def torch_file(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weights": payload}, buffer)
    return buffer.getvalue()


def bad_samples(sample: tuple[str, dict[str, bytes]], payload: object) -> dict[str, tuple[str, dict[str, bytes]]]:
    key, members = sample
    code, command, weights = pickle.dumps(payload), "pipe:touch it_ran", torch_file(payload)
    extensions = {"pkl": code, "pickle": code, "pyd": code, "pth": weights, "pt": weights}
    extra = {name: (key, members | {name: content}) for name, content in extensions.items()}
    instead = {f"{name} as {old}": (key, members | {old: content}) for old in ("png", "json", "txt", "hands.png")
               for name, content in extensions.items()}  # fmt: skip
    return extra | instead | {
        "object array": (key, members | {"pose.npy": object_array(payload)}),
        "npz": (key, members | {"pose.npz": object_array(payload)}),
        "command": (command, members),
        "command and key": (f"made/{command}", members),
    }  # fmt: skip


def see(raw: Mapping[str, Any], draw: object) -> dict[str, object]:
    return {"key": decode_sample(raw).key}


def read_every_way(folder: Path, output: Any, *, worker: bool) -> None:
    """Each way ends well or with one line that says what is wrong; a worker process takes five seconds to end."""
    for verb in (["check"], ["stats"], ["preview", "--out", "sheet.png"]):
        assert main(["data", verb[0], str(folder), *verb[1:]]) in (0, 2)
        assert "Traceback" not in output.readouterr().err
    for order, workers in ((TrainingOrder(1, seed=0, batch_size=1), 0), (ValidationOrder(1, batch_size=1), 1))[
        : 1 + worker
    ]:
        try:
            dataset = ShardDataset(folder, "train", see)
            list(islice(ShardLoader(dataset, batch_sampler=order, num_workers=workers), 2))
        except DataError as error:
            assert len(error.message.splitlines()) == 1  # noqa: PT017


def test_members_of_a_shard(
    samples: Any,
    payload: object,
    describe: Any,
    tmp_path: Path,
    sentinel: Path,
    capsys: Any,
    long: bool,
    figures: Callable[[str], None],
) -> None:
    payloads = bad_samples(samples[0], payload)
    chosen = payloads if long else {name: payloads[name] for name in ("pyd", "pth as json", "object array")}
    for number, (name, sample) in enumerate(chosen.items()):
        folder = tmp_path / str(number)
        write_tar(folder / "train-000000.tar", [sample])
        describe(folder, 1)
        assert main(["data", "check", str(folder)]) == 2, f"{name} belongs to no sample"
        read_every_way(folder, capsys, worker=long or name == "pyd")
        assert not sentinel.exists(), name
    figures(f"{len(chosen)} payloads in shards, 5 ways to read each: 0 ran")


@pytest.mark.parametrize("name", ["pipe:touch it_ran", "../x.tar", "/etc/x.tar", "a/../../x.tar"])
def test_names_of_shards(name: str, shard: Path, capsys: Any, sentinel: Path, long: bool) -> None:
    manifest = json.loads((shard.parent / MANIFEST).read_bytes())
    manifest["shards"][0]["name"] = name
    (shard.parent / MANIFEST).write_text(json.dumps(manifest))
    assert main(["data", "check", str(shard.parent)]) == 2
    read_every_way(shard.parent, capsys, worker=long)
    if "/" not in name:  # a file may be called like a command
        shard.rename(shard.with_name(name))
        assert main(["data", "check", str(shard.parent)]) == 0
        read_every_way(shard.parent, capsys, worker=long)
    read_every_way(Path(name), capsys, worker=long)

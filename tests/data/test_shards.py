from __future__ import annotations

import contextlib
import json
import tarfile
from pathlib import Path

import pytest

from h2d.data.shards import (
    Manifest,
    ShardInfo,
    iter_samples,
    iter_shard,
    read_manifest,
    read_manifests,
    write_manifest,
    write_tar,
)
from h2d.errors import DataError
from h2d.files import sha256_of

SAMPLES = [(f"folder/s{i}", {"txt": b"a" * i, "json": b"{}"}) for i in range(5)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "train-000000.tar"
    assert write_tar(path, SAMPLES) == 5
    return path


def manifest(path: Path, **changes: object) -> Manifest:
    info = {"name": path.name, "split": "train", "count": 5, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return Manifest((ShardInfo(**info | changes),), {"folder": 5}, {"limit": None}, {}, "0", None)


def test_samples_come_back_in_order(shard: Path) -> None:
    read = list(iter_shard(shard))
    assert [sample["__key__"] for sample in read] == [key for key, _ in SAMPLES]
    assert read[3]["txt"] == b"aaa"
    assert read[3]["__url__"] == str(shard)


def test_the_same_samples_give_the_same_bytes(shard: Path, tmp_path: Path) -> None:
    write_tar(tmp_path / "again.tar", iter(SAMPLES))
    assert (tmp_path / "again.tar").read_bytes() == shard.read_bytes()
    with tarfile.open(shard) as tar:
        assert {(info.mtime, info.uid, info.uname, info.mode) for info in tar} == {(0, 0, "", 0o644)}


def test_webdataset_reads_them(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDS_SECURE", "1")
    import webdataset

    read = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert [(s["__key__"], s["txt"]) for s in read] == [(key, members["txt"]) for key, members in SAMPLES]


def test_nothing_appears_when_the_samples_fail(tmp_path: Path) -> None:
    def samples():  # type: ignore[no-untyped-def]
        yield SAMPLES[0]
        raise KeyError("stop")

    with pytest.raises(KeyError):
        write_tar(tmp_path / "half.tar", samples())
    assert list(tmp_path.iterdir()) == []


def test_a_shard_cut_anywhere_gives_an_error_or_too_few_samples(shard: Path, tmp_path: Path) -> None:
    whole = shard.read_bytes()
    for cut in range(0, len(whole), 512):
        part = tmp_path / "part.tar"
        part.write_bytes(whole[:cut])
        complete = []
        with contextlib.suppress(DataError):
            complete += [sample for sample in iter_shard(part) if {"txt", "json"} <= sample.keys()]
        assert len(complete) < 5 or not whole[cut:].strip(b"\0")


def test_names_that_are_no_members_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("x", {"txt": b""}), ("x", {"txt": b""})])
    with pytest.raises(DataError, match="comes twice"):
        list(iter_shard(tmp_path / "a.tar"))
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("noextension"))
    with pytest.raises(DataError, match="not a member"):
        list(iter_shard(tmp_path / "b.tar"))


def test_the_manifest_comes_back(shard: Path) -> None:
    write_manifest(shard.parent, manifest(shard))
    assert read_manifest(shard.parent) == manifest(shard)
    assert read_manifest(str(shard.parent)).counts == {"train": 5}
    assert json.loads((shard.parent / "manifest.json").read_text())["schema"] == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1, "shards": [{"name": "x"}]}', "damaged"),
        (
            '{"schema": 1, "shards": [{"name": "../x.tar", "split": "train", "count": 1, "bytes": 1, "sha256": ""}],'
            ' "sources": {}, "settings": {}, "rejected": {}, "h2d_version": "", "commit": null}',
            r"'\.\./x\.tar' is not the name of a shard",
        ),
    ],
)
def test_damaged_manifests(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=problem):
        read_manifest(tmp_path)


def test_folders_that_are_not_shards(shard: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as caught:
        read_manifest(tmp_path / "nothing")
    assert "data_prep all" in caught.value.hint
    with pytest.raises(DataError, match="was not finished"):
        read_manifest(shard.parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        read_manifest(tmp_path / "empty")


def test_missing_and_shortened_shards_are_named(shard: Path) -> None:
    write_manifest(shard.parent, manifest(shard))
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(DataError, match=r"train-000000\.tar has 19,968 bytes, its manifest says 20,480"):
        read_manifest(shard.parent)
    shard.unlink()
    with pytest.raises(DataError, match=r"train-000000\.tar is missing"):
        read_manifest(shard.parent)


def test_a_split_that_is_not_there(shard: Path) -> None:
    write_manifest(shard.parent, manifest(shard))
    with pytest.raises(DataError, match="no split 'val'"):
        list(iter_samples(shard.parent, "val"))


@pytest.mark.parametrize("notation", ["{root}/{{one,two}}", "{root}/one::{root}/two"])
def test_several_folders_are_one_set(notation: str, tmp_path: Path) -> None:
    for name, count in (("one", 2), ("two", 3)):
        shard = tmp_path / name / "train-000000.tar"
        write_tar(shard, [(f"{name}/s{i}", {"txt": b"x"}) for i in range(count)])
        info = ShardInfo(shard.name, "train", count, shard.stat().st_size, sha256_of(shard))
        write_manifest(tmp_path / name, Manifest((info,), {name: count, "both": 1}, {"limit": count}))
    mixed = read_manifests(notation.format(root=tmp_path))
    assert mixed.counts == {"train": 5}
    assert mixed.sources == {"one": 2, "two": 3, "both": 2}
    keys = [raw["__key__"] for shard in mixed.shards for raw in iter_shard(mixed.folder / shard.name)]
    assert keys == ["one/s0", "one/s1", "two/s0", "two/s1", "two/s2"]


def test_a_mistake_in_the_notation_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Unbalanced braces"):
        read_manifests("data/{one,two/shards")
    with pytest.raises(DataError, match="three is not a folder of shards"):
        read_manifests(f"{tmp_path}/{{three,four}}")

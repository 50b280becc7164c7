"""A folder of shards: plain tar files of samples and a ``manifest.json`` that says what must be in them.

A tar file has no checksum of its content, and readers end quietly at a damaged header. The manifest, written last, is
therefore the only proof that a folder is complete.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from braceexpand import braceexpand

from h2d.data.schema import SCHEMA_VERSION, Sample, decode_sample
from h2d.errors import DataError
from h2d.files import replacing, write_atomic

MANIFEST = "manifest.json"
SPLITS = ("train", "val", "test")
_HOW = "prepare one with `python -m data_prep all DATASET out=...`"


@dataclass(frozen=True)
class ShardInfo:
    """One tar file: its name in the folder, split, number of samples, bytes and SHA-256."""

    name: str
    split: str
    count: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds and how it was made. The names of the shards are relative to ``folder``."""

    shards: tuple[ShardInfo, ...]
    sources: dict[str, int]
    settings: dict[str, Any]
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)
    h2d_version: str = ""
    commit: str | None = None
    folder: Path = field(default=Path(), compare=False)

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each split that has any."""
        totals = {split: sum(s.count for s in self.shards if s.split == split) for split in SPLITS}
        return {split: total for split, total in totals.items() if total}

    def split(self, split: str) -> tuple[ShardInfo, ...]:
        """The shards of one split, in reading order."""
        return tuple(shard for shard in self.shards if shard.split == split)


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> int:
    """Write ``(key, {extension: content})`` pairs as one tar file that appears complete or not at all.

    The same samples always give the same bytes: headers carry neither time nor owner. Returns the number of samples.
    """
    count = 0
    with replacing(path) as temporary, tarfile.open(temporary, "w:", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            count += 1
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size, info.mode, info.mtime = len(content), 0o644, 0
                tar.addfile(info, io.BytesIO(content))
    return count


def iter_shard(path: Path) -> Iterator[dict[str, Any]]:
    """Raw samples of a tar file in order: ``__key__``, ``__url__`` and extension to bytes.

    Raises:
        DataError: the file is missing or cut off, or a name in it has no extension or comes twice in one sample.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            yield from _group(tar, path)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a complete tar file: {error}", "run `h2d data check` on its folder") from error


def _group(tar: tarfile.TarFile, path: Path) -> Iterator[dict[str, Any]]:
    sample: dict[str, Any] = {}
    for info in tar:
        key, _, extension = info.name.partition(".")
        file = tar.extractfile(info) if info.isfile() else None
        if file is None or not extension:
            raise DataError(f"{path}: {info.name!r} is not a member of a sample")
        if sample and sample["__key__"] != key:
            yield sample
            sample = {}
        if extension in sample:
            raise DataError(f"{path}: {info.name} comes twice")
        sample = sample or {"__key__": key, "__url__": str(path)}
        sample[extension] = file.read()
        tar.members.clear()  # type: ignore[attr-defined]  # a reader of many shards must not keep every header
    if sample:
        yield sample


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest of a folder, after checking that every shard is there with its size.

    Raises:
        DataError: the folder or its manifest is missing or of another version, or a shard is missing or cut off.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not folder.is_dir():
        reason = "it is a file" if folder.exists() else "it does not exist"
        raise DataError(f"{folder} is not a folder of shards: {reason}", _HOW)
    if not path.is_file():
        unfinished = any(folder.glob("*.tar"))
        reason = "its preparation was not finished" if unfinished else f"it has no {MANIFEST}"
        raise DataError(f"{folder} is not a folder of shards: {reason}", "run it again" if unfinished else _HOW)
    manifest = _parse(path)
    for shard in manifest.shards:
        file = folder / shard.name
        found = file.stat().st_size if file.is_file() else None
        if found != shard.bytes:
            problem = "is missing" if found is None else f"has {found:,} bytes, its manifest says {shard.bytes:,}"
            raise DataError(f"{file} {problem}", "copy it again, or remove the folder and prepare it again")
    return manifest


def folders_of(folders: Path | str) -> list[Path]:
    """The folders that a notation names, see :func:`read_manifests`."""
    try:
        return [Path(name) for part in str(folders).split("::") for name in braceexpand(part)]
    except ValueError as error:
        raise DataError(f"{folders}: {error}", "write several folders as data/{one,other}/shards") from error


def read_manifests(folders: Path | str) -> Manifest:
    """One manifest over several folders, whose samples then count as one set.

    Args:
        folders: a folder, or several in WebDataset's notation: ``data/{hagrid,interhand}/shards`` or ``one::other``.

    Raises:
        DataError: as ``read_manifest`` does, or the notation is wrong.
    """
    manifests = [read_manifest(folder) for folder in folders_of(folders)]
    if len(manifests) == 1:
        return manifests[0]
    sources: Counter[str] = Counter()
    for manifest in manifests:
        sources.update(manifest.sources)
    return Manifest(
        shards=tuple(
            replace(shard, name=str(manifest.folder / shard.name))
            for manifest in manifests
            for shard in manifest.shards
        ),
        sources=dict(sources),
        settings={str(manifest.folder): manifest.settings for manifest in manifests},
    )


def _parse(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != SCHEMA_VERSION:
            raise DataError(f"{path} is of schema {content['schema']}, this h2d reads {SCHEMA_VERSION}", _HOW)
        shards = tuple(ShardInfo(**row) for row in content["shards"])
        for shard in shards:
            if Path(shard.name).name != shard.name or shard.split not in SPLITS:
                raise DataError(f"{path}: {shard.name!r} is not the name of a shard of {', '.join(SPLITS)}")
        names = ("sources", "settings", "rejected", "h2d_version", "commit")
        return Manifest(shards, **{name: content[name] for name in names}, folder=path.parent)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {type(error).__name__}: {error}", "prepare the data again") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``: last, when every shard it names is complete."""
    content = {"schema": SCHEMA_VERSION, "counts": manifest.counts} | asdict(manifest)
    del content["folder"]
    write_atomic(folder / MANIFEST, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")


def iter_samples(folder: Path | str, split: str) -> Iterator[Sample]:
    """Every sample of a split, decoded, in the order of the shards.

    Raises:
        DataError: the folder has no such split, a sample is damaged, or a shard ends before its number of samples.
    """
    manifest = read_manifests(folder)
    if not manifest.split(split):
        has = ", ".join(manifest.counts) or "nothing"
        raise DataError(f"{folder} has no split {split!r}", f"it has {has}")
    for shard in manifest.split(split):
        count = 0
        path = manifest.folder / shard.name
        for count, raw in enumerate(iter_shard(path), 1):  # noqa: B007
            yield decode_sample(raw)
        if count != shard.count:
            raise DataError(f"{path} holds {count} samples, its manifest says {shard.count}")

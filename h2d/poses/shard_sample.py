"""People from a sample of shards, with its exact masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from h2d.data.schema import Sample, decode_sample
from h2d.data.shards import iter_samples, iter_shard, read_manifest
from h2d.errors import DataError
from h2d.poses.scene import Scene


def first_of_folder(folder: Path) -> Scene:
    """The first sample of a folder's test split, or of the split that it has instead.

    Raises:
        DataError: the folder is damaged or empty.
    """
    counts = read_manifest(folder).counts
    if not counts:
        raise DataError(f"{folder} holds no samples", "prepare it again")
    return _scene(next(iter_samples(folder, next(reversed(counts)))), folder)


def from_shards(place: Path, key: str) -> Scene:
    """A sample by its key, from a tar file or a folder of shards.

    Raises:
        DataError: the place is damaged, or has no such sample.
    """
    for tar in _tars(place):
        for raw in iter_shard(tar):
            if raw["__key__"] == key:
                return _scene(decode_sample(raw), place)
    raise DataError(f"{place} has no sample {key!r}", "`h2d data preview` shows samples with their keys")


def _tars(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    else:
        yield from (place / shard.name for shard in read_manifest(place).shards)


def _scene(sample: Sample, place: Path) -> Scene:
    name = f"{place}::{sample.key}"
    if not (sample.pose[:, 2] > 0).any():
        raise DataError(f"{name}: no keypoint is labelled (all v are 0)", "choose another sample")
    return Scene(name, sample.image, sample.pose[None], sample.hands, sample.caption, has_picture=True)

"""Is a folder of shards what its manifest says, and is every sample in it usable?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2d.data.schema import Sample, decode_sample
from h2d.data.shards import MANIFEST, ShardInfo, folders_of, iter_shard, read_manifest
from h2d.errors import DataError
from h2d.files import sha256_of
from h2d.skeleton import HAND_LABELS, HAND_SLICES

MIN_INSIDE = 0.8
"""Share of a hand's labelled keypoints that must lie on a hand mask."""


def check(folders: Path | str) -> list[str]:
    """Problems of a folder of shards, or of several; one line each, an empty list means that all is well.

    Reads everything: the checksum of each shard, each sample, the agreement of picture, masks and pose, keys that
    come twice over all shards, people that are in more than one split.
    """
    problems: list[str] = []
    keys: dict[str, str] = {}
    splits: dict[str, set[str]] = {}
    for folder in folders_of(folders):
        problems += _check_folder(folder, keys, splits)
    problems += [f"person {who} is in {' and '.join(sorted(s))}" for who, s in sorted(splits.items()) if len(s) > 1]
    return problems


def _check_folder(folder: Path, keys: dict[str, str], splits: dict[str, set[str]]) -> list[str]:
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return [error.message]
    problems: list[str] = []
    for shard in manifest.shards:
        problems += _check_shard(folder, shard, keys, splits)
    strangers = sorted(path.name for path in folder.glob("*.tar") if path.name not in {s.name for s in manifest.shards})
    return problems + [f"{name} is not in {MANIFEST}" for name in strangers]


def _check_shard(folder: Path, shard: ShardInfo, keys: dict[str, str], splits: dict[str, set[str]]) -> list[str]:
    if sha256_of(folder / shard.name) != shard.sha256:
        return [f"{shard.name}: its content is not what was written (SHA-256 differs)"]
    problems, count = [], 0
    try:
        for raw in iter_shard(folder / shard.name):
            count += 1
            key = raw["__key__"]
            if key in keys:
                problems.append(f"{shard.name}: {key} is also in {keys[key]}")
            keys[key] = shard.name
            try:
                sample = decode_sample(raw)
            except DataError as error:
                problems.append(error.message)
                continue
            problems += [f"{shard.name}: {key}: {problem}" for problem in check_sample(sample, shard.split)]
            if sample.meta.get("subject"):
                splits.setdefault(f"{sample.meta['source']}/{sample.meta['subject']}", set()).add(shard.split)
    except DataError as error:
        problems.append(error.message)
    if count != shard.count:
        problems.append(f"{shard.name} holds {count} samples, {MANIFEST} says {shard.count}")
    return problems


def check_sample(sample: Sample, split: str) -> list[str]:
    """What is wrong with a decoded sample of a shard of ``split``."""
    problems = []
    height, width = sample.image.shape[:2]
    if sample.meta.get("size") != [width, height]:
        problems.append(f"the picture is {width} x {height}, its json says {sample.meta.get('size')}")
    if sample.meta.get("split") != split:
        problems.append(f"its json says split {sample.meta.get('split')}")
    if not sample.caption.strip():
        problems.append("no caption")
    labelled = sample.pose[sample.pose[:, 2] > 0]
    if (labelled[:, :2] < 0).any() or (labelled[:, :2] > (width, height)).any():
        problems.append("labelled keypoints outside the picture")
    return problems + _check_hands(sample)


def _check_hands(sample: Sample) -> list[str]:
    problems = []
    height, width = sample.hands.shape
    for side, part in HAND_SLICES.items():
        points = sample.pose[part][sample.pose[part, 2] > 0]
        points = np.clip(points[:, :2].astype(int), 0, (width - 1, height - 1))
        masked = bool((sample.hands == HAND_LABELS[side]).any())
        if len(points) == 0 and masked:
            problems.append(f"a mask of the {side} hand, but no keypoints")
        if len(points) and sample.hands[points[:, 1], points[:, 0]].astype(bool).mean() < MIN_INSIDE:
            problems.append(f"the {side} hand's keypoints are not in the mask")
    if not (sample.hands > 0).any():
        problems.append("no hand in the mask")
    return problems

"""Where the pose of a single image comes from: a photograph, a JSON file of keypoints, or a sample of shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from h2d.data.schema import Sample, decode_sample
from h2d.data.shards import iter_samples, iter_shard, read_manifest
from h2d.errors import DataError
from h2d.images import load_image
from h2d.masks import hand_extent, present_hands
from h2d.skeleton import HAND_LABELS, NUM_KEYPOINTS

SEPARATOR = "::"
"""Between a tar file or a folder of shards and the key of a sample in it."""
MAX_SIDE = 20_000
"""Largest width or height, in pixels, that a JSON file of keypoints may claim."""


def read_pose(source: str) -> Sample:
    """The pose as a sample; what the source lacks (picture, masks, caption) is black, empty, or follows from the pose.

    Args:
        source: ``photograph.jpg``, ``pose.json``, ``FOLDER`` of shards (the first sample of its test split, or of the
            split that it has instead), ``FOLDER::KEY`` or ``train-000000.tar::KEY``.

    Raises:
        DataError: the source is missing or damaged, or shows nobody.
    """
    if SEPARATOR in source:
        place, _, key = source.rpartition(SEPARATOR)
        return from_shards(Path(place), key)
    path = Path(source)
    if path.is_dir():
        return next(iter_samples(path, next(reversed(read_manifest(path).counts))))
    return from_json(path) if path.suffix.lower() == ".json" else from_photograph(path)


def from_photograph(path: Path) -> Sample:
    """The most prominent person of a photograph, found by MediaPipe."""
    from h2d.detection import PoseDetector

    image = load_image(path)
    with PoseDetector() as detector:
        result = detector([image])[0]
    if not result.found:
        raise DataError(f"{path}: nobody is found in it", "use a photograph of one person with the hands in view")
    return _sample(str(path), image, result.pose)


def from_json(path: Path) -> Sample:
    """``{"keypoints": 133 x [x, y, v], "width": W, "height": H}`` in pixels, v in {0, 1, 2}."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        pose = np.asarray(content["keypoints"], dtype=np.float32)
        width, height = int(content["width"]), int(content["height"])
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is no file of keypoints: {type(error).__name__}: {error}", _FORM) from error
    if pose.shape != (NUM_KEYPOINTS, 3) or not np.isfinite(pose).all() or not np.isin(pose[:, 2], (0, 1, 2)).all():
        raise DataError(f"{path}: keypoints are not {NUM_KEYPOINTS} triples of finite x, y and v in 0, 1, 2", _FORM)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise DataError(f"{path}: width {width} and height {height} are not between 1 and {MAX_SIDE}", _FORM)
    return _sample(str(path), np.zeros((height, width, 3), np.uint8), pose)


_FORM = '{"keypoints": [[x, y, v], ... 133 of them, COCO-WholeBody order], "width": W, "height": H}'


def from_shards(place: Path, key: str) -> Sample:
    """A sample by its key, from a tar file or a folder of shards."""
    for tar in _tars(place):
        for raw in iter_shard(tar):
            if raw["__key__"] == key:
                return decode_sample(raw)
    raise DataError(f"{place} has no sample {key!r}", "`h2d data preview` shows samples with their keys")


def _tars(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    else:
        yield from (place / shard.name for shard in read_manifest(place).shards)


def _sample(key: str, image: np.ndarray, pose: np.ndarray) -> Sample:
    """A sample whose hand masks are the boxes of the keypoints, which is all that choosing a frame needs."""
    if not (pose[:, 2] > 0).any():
        raise DataError(f"{key}: no keypoint is labelled (all v are 0)")
    hands = np.zeros(image.shape[:2], np.uint8)
    for hand in present_hands(pose):
        x0, y0, x1, y1 = (max(0, round(value)) for value in hand_extent(pose, (hand,)))
        hands[y0 : y1 + 1, x0 : x1 + 1] = HAND_LABELS[hand]
    return Sample(key=key, image=image, hands=hands, pose=pose, caption="", meta={})

"""Reading an image of the index, and noticing that its file has changed since its keypoints were found."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.job import Job
from data_prep.worker import Item
from h2d.data.schema import decode_npy
from h2d.errors import DataError
from h2d.images import ImageError, load_image


@dataclass(frozen=True)
class Found:
    """What the keypoints stage left: pose float32 ``(133, 3)`` and facts about the file and the person."""

    pose: np.ndarray
    facts: dict[str, Any]


def read_bytes(job: Job, item: Item) -> bytes:
    """The image's file.

    Raises:
        ImageError: it cannot be read.
        DataError: it is not the file whose keypoints were found.
    """
    path = job.root / item.row.image
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            raise ImageError(item.row.image, "not a file")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(item.row.image, error.strerror or type(error).__name__) from error
    if "keypoints.json" in item.members and digest(data) != found(item).facts["sha256"]:
        raise DataError("file changed since its keypoints were found")
    return data


def read_image(job: Job, item: Item) -> np.ndarray:
    """The image's pixels, uint8 ``(H, W, 3)``; raises as ``read_bytes`` does."""
    return load_image(read_bytes(job, item), item.row.image)


def found(item: Item) -> Found:
    """What the keypoints stage left."""
    return Found(decode_npy(item.members["pose.npy"]), json.loads(item.members["keypoints.json"]))


def digest(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def encode_json(facts: dict[str, Any]) -> bytes:
    """JSON with sorted keys."""
    return json.dumps(facts, sort_keys=True, allow_nan=False).encode()

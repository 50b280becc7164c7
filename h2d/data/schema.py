"""What one sample is: a picture of one person with everything that training needs to know about it.

Members of a sample in a shard, in this order: ``jpg`` or ``png`` (original bytes where possible), ``hands.png``,
``person.png`` (optional), ``pose.npy``, ``txt``, ``json``. Nothing in it can run code when it is read.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from h2d.errors import DataError
from h2d.images import encode_png, load_image
from h2d.skeleton import HAND_LABELS, HAND_SLICES, NUM_KEYPOINTS

SCHEMA_VERSION = 1
IMAGE_EXTENSIONS = ("jpg", "png")
REQUIRED = ("hands.png", "pose.npy", "txt", "json")
MEMBERS = (*IMAGE_EXTENSIONS, *REQUIRED, "person.png")
_KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


@dataclass
class Sample:
    """One decoded sample.

    Args:
        key: unique over all data sets, ``source/name``, without dots.
        image: uint8 ``(H, W, 3)`` RGB.
        hands: uint8 ``(H, W)``: 0 background, 1 the person's right hand, 2 the left.
        pose: float32 ``(133, 3)``: x, y in pixels of ``image``, v in {0, 1, 2}.
        caption: one line of text.
        meta: the sample's JSON (schema, key, source, split, subject, gesture, size, hand_boxes, scores, made_by).
        person: uint8 ``(H, W)``, 255 on the person, or None.
    """

    key: str
    image: np.ndarray
    hands: np.ndarray
    pose: np.ndarray
    caption: str
    meta: dict[str, Any]
    person: np.ndarray | None = None


def validate_key(key: str) -> str:
    """Return ``key`` if it is usable as a name in a tar file and as a part of a path.

    Raises:
        DataError: it holds a dot (everything after it would be taken for the extension), ``..``, a leading slash or
            anything but letters, digits, ``_``, ``-`` and ``/``, or is longer than 150 characters.
    """
    if len(key) > 150 or not _KEY.fullmatch(key):
        raise DataError(f"{key[:150]!r} cannot be the key of a sample", "use letters, digits, _ - and / (no dots)")
    return key


def encode_sample(
    key: str,
    image_bytes: bytes,
    image_ext: str,
    hands: np.ndarray,
    pose: np.ndarray,
    caption: str,
    meta: Mapping[str, Any],
    person: np.ndarray | None = None,
) -> dict[str, bytes]:
    """Members of a sample, extension to content, in the order of the module's description (see ``Sample``).

    Raises:
        DataError: the key is not usable.
        ValueError: ``image_ext`` is not ``jpg`` or ``png``.
    """
    validate_key(key)
    if image_ext not in IMAGE_EXTENSIONS:
        raise ValueError(f"image_ext must be jpg or png, not {image_ext!r}")
    members = {image_ext: image_bytes, "hands.png": encode_png(hands)}
    if person is not None:
        members["person.png"] = encode_png(person)
    text = json.dumps(dict(meta), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return members | {"pose.npy": encode_npy(pose), "txt": caption.encode(), "json": text.encode()}


def decode_sample(raw: Mapping[str, Any], *, person: bool = True) -> Sample:
    """Decode the members of a sample and check that they fit together.

    Args:
        raw: extension to bytes, with ``__key__`` and, if known, ``__url__`` (the shard).
        person: decode ``person.png`` where there is one; training does without.

    Raises:
        DataError: a member is missing, damaged, of another size than the picture, or of another schema version. The
            message names the shard and the key.
    """
    key = str(raw.get("__key__", "?"))
    where = f"sample {key} of {raw.get('__url__', 'a shard')}"
    try:
        return _decode(key, raw, person)
    except DataError as error:
        raise DataError(f"{where}: {error.message}", error.hint) from error
    except Exception as error:
        raise DataError(f"{where}: {type(error).__name__}: {error}") from error


def _decode(key: str, raw: Mapping[str, Any], person: bool) -> Sample:
    validate_key(key)
    extension = next((ext for ext in IMAGE_EXTENSIONS if ext in raw), None)
    missing = [name for name in REQUIRED if name not in raw] + ([] if extension else ["jpg or png"])
    if missing or extension is None:
        raise DataError(f"{', '.join(missing)} is missing")
    if unknown := [name for name in raw if name not in MEMBERS and not name.startswith("__")]:
        raise DataError(f"{', '.join(unknown)} does not belong to a sample", "keys must be without dots")
    image = load_image(raw[extension], f"its {extension}")
    sample = Sample(
        key=key,
        image=image,
        hands=_mask(raw["hands.png"], image, "hands.png"),
        pose=decode_npy(raw["pose.npy"]),
        caption=_text(raw["txt"]),
        meta=_meta(raw["json"], key),
        person=_mask(raw["person.png"], image, "person.png") if person and "person.png" in raw else None,
    )
    if sample.pose.shape != (NUM_KEYPOINTS, 3) or sample.pose.dtype != np.float32:
        raise DataError(f"pose.npy holds {sample.pose.dtype} {sample.pose.shape}, not float32 (133, 3)")
    if not np.isfinite(sample.pose).all() or not np.isin(sample.pose[:, 2], (0, 1, 2)).all():
        raise DataError("pose.npy holds numbers that are not finite, or visibilities other than 0, 1 and 2")
    if sample.hands.max() > max(HAND_LABELS.values()):
        raise DataError("hands.png holds values other than 0, 1 and 2")
    return sample


def encode_npy(array: np.ndarray) -> bytes:
    """An array of numbers as the content of an ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def decode_npy(data: bytes) -> np.ndarray:
    """The array of an ``.npy`` file; one with Python objects in it is refused with a ValueError."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def decode_mask(data: bytes) -> np.ndarray:
    """The values of a one-channel PNG, uint8 ``(H, W)``.

    Raises:
        DataError: the PNG has another number of channels or of bits.
    """
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        if picture.mode != "L":
            raise DataError(f"a mask must be a grey PNG of 8 bits, not of mode {picture.mode}")
        return np.array(picture)


def hand_boxes(pose: np.ndarray) -> dict[str, list[float]]:
    """Tight box ``[x0, y0, x1, y1]`` in pixels around the labelled keypoints of each hand that has any."""
    boxes = {}
    for side, part in HAND_SLICES.items():
        points = pose[part][pose[part, 2] > 0, :2]
        if len(points):
            boxes[side] = [round(float(v), 2) for v in (*points.min(axis=0), *points.max(axis=0))]
    return boxes


def _mask(data: bytes, image: np.ndarray, name: str) -> np.ndarray:
    mask = decode_mask(data)
    if mask.shape != image.shape[:2]:
        raise DataError(f"{name} is {mask.shape[1]} x {mask.shape[0]}, the picture {image.shape[1]} x {image.shape[0]}")
    return mask


def _text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode()


def _meta(data: bytes | dict[str, Any], key: str) -> dict[str, Any]:
    meta = data if isinstance(data, dict) else json.loads(data)
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA_VERSION:
        found = meta.get("schema") if isinstance(meta, dict) else type(meta).__name__
        raise DataError(f"made for schema {found}, this h2d reads {SCHEMA_VERSION}", "prepare the data again")
    if meta.get("key") != key:
        raise DataError(f"its json belongs to {meta.get('key')!r}")
    return meta

"""The annotation files of InterHand2.6M v1.0, streamed: those of the training split describe 1.36 million images.

    annotations/{split}/InterHand2.6M_{split}_data.json      images and annotations, as in COCO
    annotations/{split}/InterHand2.6M_{split}_camera.json    capture -> campos, camrot, focal, princpt -> camera
    annotations/{split}/InterHand2.6M_{split}_joint_3d.json  capture -> frame -> world_coord, joint_valid

Sets of joints are whole numbers of 42 bits, bit ``i`` for joint ``i``: a million of them fit into memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.sources.joints import HAND_JOINTS, JOINTS, Camera
from h2d.errors import DataError

SPLITS = ("train", "val", "test")
HOME = "it comes from the InterHand2.6M homepage (mks0601.github.io/InterHand2.6M), version 1.0"
PLACEHOLDER = 1.0
"""All three coordinates of a joint that was not annotated."""
_WRISTS = (HAND_JOINTS - 1, JOINTS - 1)


class Image(NamedTuple):
    """An entry of ``images``; ``file`` is relative to ``images/{split}``."""

    id: int
    file: str
    size: tuple[int, int]
    capture: str
    subject: str
    sequence: str
    camera: str
    frame: str


class Frame(NamedTuple):
    """The joints of a moment, which all cameras share: ``(42, 3)`` mm, and the set of those that are known."""

    joints: np.ndarray
    valid: int


class Annotations:
    """The three files of a split.

    Raises:
        DataError: (every method) a file is missing, damaged or laid out in another way. Names it, and says where it
            can be had.
    """

    def __init__(self, root: Path, split: str) -> None:
        self._start = f"{root}/annotations/{split}/InterHand2.6M_{split}"

    def images(self) -> Iterator[Image]:
        """Every image of the split."""
        for entry in self._stream("data", "images.item"):
            with self._entries("data", "an image"):
                yield Image(
                    id=entry["id"],
                    file=str(entry["file_name"]),
                    size=(int(entry["width"]), int(entry["height"])),
                    capture=str(entry["capture"]),
                    subject=str(entry["subject"]),
                    sequence=str(entry["seq_name"]),
                    camera=str(entry["camera"]),
                    frame=str(entry["frame_idx"]),
                )

    def in_view(self) -> dict[int, int | None]:
        """By the id of an image, the set of joints inside its view; None where the kind of hand is not valid."""
        found: dict[int, int | None] = {}
        for entry in self._stream("data", "annotations.item"):
            with self._entries("data", "an annotation"):
                found[entry["image_id"]] = _joint_set(entry["joint_valid"]) if entry["hand_type_valid"] else None
        return found

    def frames(self) -> Iterator[tuple[tuple[str, str], Frame]]:
        """By capture and frame, the joints in space."""
        for capture, frames in self._stream("joint_3d", ""):
            with self._entries("joint_3d", f"capture {capture}"):
                moments = list(frames.items())
            for frame, entry in moments:
                with self._entries("joint_3d", f"frame {frame} of capture {capture}"):
                    yield (capture, frame), _frame(entry)

    def cameras(self) -> dict[tuple[str, str], Camera]:
        """By capture and number, the cameras."""
        path = self._path("camera")
        try:
            captures = json.loads(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}", HOME) from error
        except ValueError as error:
            raise DataError(f"{path} is damaged: {error}", HOME) from error
        with self._entries("camera", "a camera"):
            return {
                (capture, name): _camera(entry, name) for capture, entry in captures.items() for name in entry["campos"]
            }

    def _path(self, kind: str) -> Path:
        return Path(f"{self._start}_{kind}.json")

    def _stream(self, kind: str, prefix: str) -> Iterator[Any]:
        """The items below a prefix of a file; with an empty one its keys and values."""
        import ijson

        path = self._path(kind)
        try:
            with open(path, "rb") as file:
                read = ijson.items if prefix else ijson.kvitems
                yield from read(file, prefix, use_float=True)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}", HOME) from error
        except ijson.JSONError as error:
            raise DataError(f"{path} is damaged: {' '.join(str(error).split())[:160]}", HOME) from error

    @contextmanager
    def _entries(self, kind: str, what: str) -> Iterator[None]:
        """Turn the surprise of an entry of another layout into one that names the file."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            problem = f"{type(error).__name__} {error}"
            raise DataError(f"{self._path(kind)}: {what} is not as in version 1.0: {problem}", HOME) from error


def with_wrists(joints: int) -> int:
    """A set of joints without the hands whose wrist is not in it, as in the official loaders."""
    for wrist in _WRISTS:
        if not joints >> wrist & 1:
            joints &= ~(((1 << HAND_JOINTS) - 1) << (wrist - HAND_JOINTS + 1))
    return joints


def as_flags(joints: int) -> np.ndarray:
    """boolean ``(42,)`` of a set of joints."""
    return np.array([joints >> place & 1 for place in range(JOINTS)], bool)


def _joint_set(valid: list[Any]) -> int:
    """The set of a list of flags, each of which may stand in a list of its own."""
    if len(valid) != JOINTS:
        raise ValueError(f"{len(valid)} joints")
    joints = 0
    for place, flag in enumerate(valid):
        if flag[0] if isinstance(flag, list) else flag:
            joints |= 1 << place
    return joints


def _frame(entry: dict[str, Any]) -> Frame:
    joints = np.array(entry["world_coord"], np.float64).reshape(JOINTS, 3)
    known = (joints != PLACEHOLDER).any(axis=1) & np.isfinite(joints).all(axis=1)
    return Frame(joints, _joint_set(entry["joint_valid"]) & _joint_set(known.tolist()))


def _camera(entry: dict[str, Any], name: str) -> Camera:
    """``campos`` is the centre of the camera, not the translation."""
    centre, rotation, focal, principal = (
        np.array(entry[kind][name], np.float64) for kind in ("campos", "camrot", "focal", "princpt")
    )
    return Camera(rotation.reshape(3, 3), -rotation.reshape(3, 3) @ centre, focal.reshape(2), principal.reshape(2))

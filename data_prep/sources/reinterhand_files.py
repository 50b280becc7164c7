"""The files of a capture of Re:InterHand: cameras, joints and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.joints import JOINTS, REINTERHAND, Camera, sides
from h2d.errors import DataError

HOME = "it comes from the official downloader in facebookresearch/InterWild"
CAMERAS = "Mugsy_cameras/cam_params.json"
FITTED_JOINTS = 24
FITS, ORIGINAL = "orig_fits", "keypoints_orig"
"""The two sets of joints, both in mm of the world."""


@lru_cache(maxsize=16)
def read_cameras(capture: Path) -> dict[str, Camera]:
    """The third-person cameras by name. ``t`` is the translation, not the centre.

    Raises:
        DataError: the file is missing, or not what it should be.
    """
    entries = _read(capture / CAMERAS)
    try:
        return {name: _camera(entry) for name, entry in entries.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__} {error}"
        raise DataError(f"{capture / CAMERAS} is not a file of cameras: {problem}", HOME) from error


def frames_with_joints(capture: Path, kind: str) -> set[int]:
    """Numbers of the frames whose joints are there, of both hands.

    Raises:
        DataError: a folder of joints is missing. Names it.
    """
    frames = []
    for folder in {path.parent for path in _joint_files(capture, kind, 0)}:
        try:
            names = [path.stem.removeprefix("keypoint-") for path in folder.iterdir() if path.suffix == ".json"]
        except OSError as error:
            hint = f"joints={ORIGINAL if kind == FITS else FITS} reads the other set; {HOME}"
            raise DataError(f"{folder} cannot be opened: {error.strerror}", hint) from error
        frames.append({int(name) for name in names if name.isdecimal()})
    return set.intersection(*frames)


def read_joints(capture: Path, kind: str, frame: int) -> dict[str, np.ndarray]:
    """Hand keypoints ``(21, 3)`` mm in the world by side, without the hands that are missing in the frame.

    Raises:
        DataError: a file is missing, or holds another number of joints.
    """
    paths = _joint_files(capture, kind, frame)
    count = FITTED_JOINTS if kind == FITS else JOINTS
    files = [_points(path, count) for path in paths]
    hands = {"right": files[0], "left": files[1]} if kind == FITS else sides(files[0])
    picked = {side: points[list(REINTERHAND)] if kind == FITS else points for side, points in hands.items()}
    return {side: points for side, points in picked.items() if points.any()}


def pictures(capture: Path, envmap: str) -> Iterator[Path]:
    """The pictures of all third-person cameras. The lists of frames name some that were not rendered.

    Raises:
        DataError: there is no folder of them. Names it.
    """
    folder = capture / "Mugsy_cameras" / envmap / "images"
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist", f"envmap= chooses the renderings; {HOME}")
    for camera in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield from sorted(path for path in camera.iterdir() if path.suffix == ".png" and path.name[0] != ".")


def _joint_files(capture: Path, kind: str, frame: int) -> list[Path]:
    """Right and left hand's file, or the one of both; only the names of the first kind are padded."""
    if kind == FITS:
        return [capture / FITS / side / "Keypoints" / f"keypoint-{frame:06d}.json" for side in ("right", "left")]
    return [capture / ORIGINAL / ORIGINAL / f"{frame}.json"]


def _points(path: Path, count: int) -> np.ndarray:
    try:
        points = np.array(_read(path), np.float64)
    except DataError as error:
        raise DataError(f"joints cannot be read: {error.message}") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"joints damaged: {path.name}: {error}") from error
    if points.shape != (count, 3) or not np.isfinite(points).all():
        raise DataError(f"joints damaged: {path.name} holds {points.shape}, not {count} finite joints")
    return points


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", HOME) from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}", HOME) from error


def _camera(entry: dict[str, Any]) -> Camera:
    shapes = {"R": (3, 3), "t": (3,), "focal": (2,), "princpt": (2,)}
    return Camera(*(np.array(entry[name], np.float64).reshape(shape) for name, shape in shapes.items()))

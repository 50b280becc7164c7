"""People from a JSON file of keypoints, whatever wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from h2d.errors import DataError
from h2d.images import load_image
from h2d.poses.coco import is_coco, read_coco
from h2d.poses.listing import Listing, most_prominent
from h2d.poses.openpose import is_openpose, read_openpose
from h2d.poses.own_form import is_own, read_own
from h2d.poses.scene import Scene
from h2d.poses.values import FORMS


def looks_like_json(path: Path) -> bool:
    """Whether a file begins as a JSON object or array does, which no picture does.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def read_keypoint_file(path: Path, image: str | None, people: int) -> Scene:
    """The people of a file, most prominent first; those of our own form in its order.

    Args:
        path: of the file.
        image: which image of a COCO file, by id or file name.
        people: take at most so many.

    Raises:
        DataError: the file is damaged or of no known form, or lists nobody.
    """
    listing = _listing(_parse(path), path, image)
    poses = most_prominent(listing.people, people, in_order=listing.in_order)
    name = str(path) if image is None else f"{path}::{image}"
    if not poses:
        problem = "no keypoint of anybody in it is labelled (all v are 0)" if listing.people else "it lists nobody"
        raise DataError(f"{name}: {problem}", "choose a file or an image with a person")
    return Scene(name, _picture(listing, name), np.stack(poses), None, "", listing.picture is not None)


def _listing(content: Any, path: Path, image: str | None) -> Listing:
    if is_coco(content):
        return read_coco(content, path, image)
    if image is not None:
        raise DataError(f"{path} is no COCO annotation file: it has no image {image!r}", f"leave out ::{image}")
    if is_openpose(content):
        return read_openpose(content, str(path))
    if is_own(content):
        return read_own(content, str(path))
    raise DataError(f"{path} is no file of keypoints that h2d knows", FORMS)


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {' '.join(str(error).split())[:160]}", "write the file again") from error


def _picture(listing: Listing, name: str) -> np.ndarray:
    width, height = listing.size
    if listing.picture is None:
        return np.zeros((height, width, 3), np.uint8)
    image = load_image(listing.picture)
    if image.shape[:2] != (height, width):
        found = f"{image.shape[1]} x {image.shape[0]}"
        raise DataError(f"{listing.picture} is {found} pixels, {name} says {width} x {height}", "use the original file")
    return image

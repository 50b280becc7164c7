"""COCO-WholeBody's annotation files (Jin et al. 2020), and COCO's own keypoint files, which have the body only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from h2d.errors import DataError
from h2d.poses.listing import Listing
from h2d.poses.values import as_list, as_object, picture_size, triples
from h2d.skeleton import BODY, FACE, FEET, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND

PARTS = {"foot": FEET, "face": FACE, "lefthand": LEFT_HAND, "righthand": RIGHT_HAND}
"""Each part's ``*_kpts`` field, with a flag ``*_valid``, and its place in a pose."""
SHOWN = 5


def is_coco(content: Any) -> bool:
    """Whether the content of a JSON file has this form."""
    return isinstance(content, dict) and "images" in content and "annotations" in content


def read_coco(content: Any, path: Path, image: str | None) -> Listing:
    """The people of one image of a file, and its picture when it lies beside the file or in ``images`` beside it.

    Args:
        content: of the file.
        path: of the file.
        image: id or file name; None where the file has one image only.

    Raises:
        DataError: naming the file, the annotation, the field, and what is wrong.
    """
    entry = _find(as_list(content["images"], f"{path}: images"), path, image)
    people = []
    for annotation in as_list(content["annotations"], f"{path}: annotations"):
        fields = as_object(annotation, f"{path}: an annotation")
        if fields.get("image_id") == entry.get("id"):
            people.append(_person(fields, f"{path}: annotation {fields.get('id')}"))
    name = entry.get("file_name")
    places = [path.parent / name, path.parent / "images" / name] if isinstance(name, str) and name else []
    size = picture_size(entry, ("width", "height"), f"{path}: image {entry.get('id')}")
    return Listing(people, size, next((place for place in places if place.is_file()), None))


def _find(images: list[Any], path: Path, image: str | None) -> dict[str, Any]:
    entries = [as_object(entry, f"{path}: an image") for entry in images]
    if image is not None:
        entries = [entry for entry in entries if image in _names(entry)]
    if len(entries) == 1:
        return entries[0]
    some = ", ".join(str(entry.get("id")) for entry in images[:SHOWN]) + (", ..." if len(images) > SHOWN else "")
    hint = f"choose one as {path}::ID (or its file name); it has {some or 'none'}"
    if image is None:
        raise DataError(f"{path} lists {len(entries)} images", hint)
    raise DataError(f"{path} has {len(entries) or 'no'} images called {image!r}", hint)


def _names(entry: dict[str, Any]) -> set[str]:
    name = str(entry.get("file_name", ""))
    return {str(entry.get("id")), name, Path(name).name}


def _person(annotation: dict[str, Any], where: str) -> np.ndarray:
    pose = np.zeros((NUM_KEYPOINTS, 3), np.float32)
    if "keypoints" not in annotation:  # a thing, or a person that nobody labelled
        return pose
    pose[BODY] = triples(annotation["keypoints"], (17,), f"{where}: keypoints")
    if not np.isin(pose[BODY, 2], (0, 1, 2)).all():
        raise DataError(f"{where}: keypoints: a v is not 0, 1 or 2", "the file is no COCO annotation")
    for name, part in PARTS.items():
        if annotation.get(f"{name}_kpts") and annotation.get(f"{name}_valid", True):
            points = triples(annotation[f"{name}_kpts"], (part.stop - part.start,), f"{where}: {name}_kpts")
            points[:, 2] = np.where(points[:, 2] > 0, 2, 0)
            pose[part] = points
    return pose

"""Our own keypoint files: ``{"keypoints": 133 x [x, y, v], "width": W, "height": H}``, or P x 133 x [x, y, v]."""

from __future__ import annotations

from typing import Any

import numpy as np

from h2d.errors import DataError
from h2d.poses.listing import Listing
from h2d.poses.values import as_list, picture_size, triples
from h2d.skeleton import NUM_KEYPOINTS


def is_own(content: Any) -> bool:
    """Whether the content of a JSON file has this form."""
    return isinstance(content, dict) and "keypoints" in content


def read_own(content: Any, place: str) -> Listing:
    """The people of a file, in its order.

    Raises:
        DataError: naming the file, the person, and what is wrong.
    """
    rows = as_list(content["keypoints"], f"{place}: keypoints")
    several = bool(rows) and isinstance(rows[0], list) and bool(rows[0]) and isinstance(rows[0][0], list)
    listed = rows if several else [rows] if rows else []
    people = [_person(person, f"{place}: person {number}") for number, person in enumerate(listed, 1)]
    return Listing(people, picture_size(content, ("width", "height"), place), in_order=True)


def _person(rows: Any, where: str) -> np.ndarray:
    points = as_list(rows, where)
    if len(points) != NUM_KEYPOINTS:
        raise DataError(f"{where} has {len(points)} keypoints, not {NUM_KEYPOINTS}", "use COCO-WholeBody's order")
    pose = np.concatenate([triples(point, (1,), f"{where}: keypoint {i}") for i, point in enumerate(points)])
    for number, v in enumerate(pose[:, 2].tolist()):
        if v not in (0, 1, 2):
            raise DataError(f"{where}: keypoint {number} has v = {v:g}", "v is 0 (missing), 1 (hidden) or 2 (visible)")
    return pose

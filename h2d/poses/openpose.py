"""OpenPose's keypoint files, as OpenPose itself, ControlNet's web interfaces and pose editors write them.

``{"people": [{"pose_keypoints_2d": [x, y, c, ...], "face_keypoints_2d": ..., "hand_left_keypoints_2d": ...,
"hand_right_keypoints_2d": ...}], "canvas_width": W, "canvas_height": H}``, alone or as the only item of a list.
OpenPose itself writes no size of the canvas. The order of the joints: OpenPose, doc/02_output.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from h2d.errors import DataError
from h2d.poses.listing import Listing
from h2d.poses.values import as_list, as_object, picture_size, triples
from h2d.skeleton import BODY, FACE, FEET, HAND_SLICES, NUM_KEYPOINTS, OPENPOSE18_BODY, OPENPOSE25_BODY, OPENPOSE25_FEET

MIN_CONFIDENCE = 0.05
"""A point of less confidence, in 0 .. 1, counts as not found; OpenPose draws by the same threshold."""
SHARES = 2.0
"""Files without a larger coordinate hold shares of the canvas, not pixels; a point may lie a little outside."""


def is_openpose(content: Any) -> bool:
    """Whether the content of a JSON file has this form."""
    frame = content[0] if isinstance(content, list) and content else content
    return isinstance(frame, dict) and "people" in frame


def read_openpose(content: Any, place: str) -> Listing:
    """The people of a file.

    Raises:
        DataError: naming the file, the person, the field, and what is wrong.
    """
    if isinstance(content, list) and len(content) != 1:
        raise DataError(
            f"{place} holds {len(content)} frames, not one", "write the frame you want to a file of its own"
        )
    frame = content[0] if isinstance(content, list) else content
    listed = as_list(frame["people"], f"{place}: people")
    people = [_person(as_object(person, where), where) for where, person in _named(listed, place)]
    size = picture_size(frame, ("canvas_width", "canvas_height"), place) if people else (1, 1)
    found = [pose[pose[:, 2] > 0, :2] for pose in people]
    if max((np.abs(points).max() for points in found if len(points)), default=np.inf) <= SHARES:
        for pose in people:
            pose[:, :2] *= np.array(size, np.float32)
    return Listing(people, size)


def _named(listed: list[Any], place: str) -> list[tuple[str, Any]]:
    return [(f"{place}: person {number}", person) for number, person in enumerate(listed, 1)]


def _person(person: dict[str, Any], where: str) -> np.ndarray:
    pose = np.zeros((NUM_KEYPOINTS, 3), np.float32)
    body = _part(person, "pose_keypoints_2d", (18, 25), where)
    if body is not None:
        pose[BODY] = body[list(OPENPOSE25_BODY if len(body) == 25 else OPENPOSE18_BODY)]
        if len(body) == 25:
            pose[FEET] = body[list(OPENPOSE25_FEET)]
    face = _part(person, "face_keypoints_2d", (70, 68), where)  # the last two of 70 are the pupils
    if face is not None:
        pose[FACE] = face[:68]
    for side, part in HAND_SLICES.items():
        hand = _part(person, f"hand_{side}_keypoints_2d", (21,), where)
        if hand is not None:
            pose[part] = hand
    return pose


def _part(person: dict[str, Any], name: str, counts: tuple[int, ...], where: str) -> np.ndarray | None:
    """Points ``(N, 3)`` with v = 2 where they were found, else all zero; None for a part that was not looked for."""
    if person.get(name) in (None, []):
        return None
    points = triples(person[name], counts, f"{where}: {name}")
    found = points[:, 2] > MIN_CONFIDENCE
    points[:, 2] = 2
    return np.where(found[:, None], points, np.float32(0))

"""People as a file that a person can read and change, and that ``read_scene`` reads back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2d.files import write_atomic
from h2d.poses.scene import Scene


def write_pose(path: Path, scene: Scene) -> None:
    """Write the people of a scene in our own form; picture, masks and caption are not part of it.

    Args:
        path: a JSON file, which appears complete or not at all.
        scene: one person is written as 133 keypoints, several as a list of such.

    Raises:
        SetupError: the file cannot be written.
    """
    people = [",\n".join(f"  [{_triple(point)}]" for point in person) for person in scene.people]
    keypoints = people[0] if len(people) == 1 else ",\n".join(f" [\n{person}\n ]" for person in people)
    height, width = scene.image.shape[:2]
    text = f'{{"width": {width}, "height": {height}, "keypoints": [\n{keypoints}\n]}}\n'
    write_atomic(path, text.encode())


def _triple(point: np.ndarray) -> str:
    """x, y, v with as few digits as give the same float32 again."""
    x, y, v = point.astype(np.float32)
    return f"{x!s}, {y!s}, {int(v)}"

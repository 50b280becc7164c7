"""What a keypoint file of any form says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Listing:
    """The people of one picture.

    Args:
        people: poses, each float32 ``(133, 3)`` in pixels, v in {0, 1, 2}; some may have no labelled keypoint.
        size: width and height of the picture.
        picture: its file, where there is one.
        in_order: whether the order of the people was somebody's choice.
    """

    people: list[np.ndarray]
    size: tuple[int, int]
    picture: Path | None = None
    in_order: bool = False


def most_prominent(people: list[np.ndarray], count: int, *, in_order: bool = False) -> list[np.ndarray]:
    """At most ``count`` people with a labelled keypoint: those whose keypoints span the largest boxes, largest first.

    Args:
        people: poses ``(133, 3)``.
        count: at least 1.
        in_order: leave those who are taken in the order in which they came.
    """
    seen = [pose for pose in people if (pose[:, 2] > 0).any()]
    taken = sorted(range(len(seen)), key=lambda number: -box_area(seen[number]))[:count]
    return [seen[number] for number in (sorted(taken) if in_order else taken)]


def box_area(pose: np.ndarray) -> float:
    """Area in square pixels of the box around the labelled keypoints of a pose ``(133, 3)``."""
    width, height = np.ptp(pose[pose[:, 2] > 0, :2], axis=0)
    return float(width * height)

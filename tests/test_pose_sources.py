import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.errors import DataError
from h2d.pose_sources import read_pose
from h2d.skeleton import HAND_LABELS, RIGHT_HAND

POINTS = [[10.0, 20.0, 2.0]] * 133


def _write(path: Path, **changes: Any) -> str:
    path.write_text(json.dumps({"keypoints": POINTS, "width": 64, "height": 48, **changes}))
    return str(path)


def test_keypoints_become_a_sample_with_hand_boxes(tmp_path: Path) -> None:
    points = np.zeros((133, 3))
    points[RIGHT_HAND] = [(10 + i % 5, 20 + i % 7, 2) for i in range(21)]
    sample = read_pose(_write(tmp_path / "pose.json", keypoints=points.tolist()))
    assert sample.image.shape == (48, 64, 3)
    rows, columns = np.nonzero(sample.hands == HAND_LABELS["right"])
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 14, 20, 26)
    assert not (sample.hands == HAND_LABELS["left"]).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"keypoints": POINTS[:132]},
        {"keypoints": [[0, 0, 3.0]] * 133},
        {"keypoints": [[0, 0, 0.0]] * 133},
        {"keypoints": [[float("nan"), 0, 2.0]] * 133},
        {"keypoints": "many"},
        {"keypoints": [[1, 2]] * 133},
        {"width": 0},
        {"width": -3},
        {"height": 10**9},
        {"height": None},
        {"width": float("inf")},
    ],
)
def test_wrong_keypoints_are_named(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pose\.json"):
        read_pose(_write(tmp_path / "pose.json", **changes))


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "null", "\x00", "[" * 100_000])
def test_other_files_are_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pose.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"pose\.json"):
        read_pose(str(path))


def test_missing_sources_are_named(tmp_path: Path) -> None:
    for source in ("a.json", "a.jpg", "folder::key", "a.tar::key"):
        with pytest.raises(DataError, match=r"a\.|folder"):
            read_pose(str(tmp_path / source))

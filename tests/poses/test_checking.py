from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from h2d.masks import CropBox
from h2d.poses.checking import BOTH_RGB, check_picture
from h2d.poses.scene import Scene
from h2d.rendering import OVERLAY_RGB

Build = Callable[..., np.ndarray]
Scenes = Callable[..., Scene]


def _places(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((picture == colour).all(axis=2))


@pytest.mark.parametrize(
    ("width", "height", "shape"),
    [(64, 64, (512, 512)), (300, 600, (1200, 600)), (512, 768, (768, 512)), (800, 600, (600, 800))],
)
def test_small_canvases_are_enlarged(
    width: int, height: int, shape: tuple[int, int], pose: Build, scene: Scenes
) -> None:
    assert check_picture(scene(width, height, pose()), []).shape == (*shape, 3)


def test_squares_lie_where_the_crops_are(pose: Build, scene: Scenes) -> None:
    boxes = [
        (CropBox(20, 40, 30), ("right",)),
        (CropBox(100, 40, 50), ("left",)),
        (CropBox(60, 80, 40), ("right", "left")),
    ]
    picture = check_picture(scene(256, 128, pose()), boxes)
    assert picture.shape == (512, 1024, 3)
    for box, colour in zip(boxes, (OVERLAY_RGB["right"], OVERLAY_RGB["left"], BOTH_RGB), strict=True):
        places = _places(picture, colour)
        assert places.max(axis=0).tolist() == [4 * (box[0].y + box[0].side) - 1, 4 * (box[0].x + box[0].side) - 1]
        assert places[:, 1].min() == 4 * box[0].x
        assert places[:, 0].min() < 4 * box[0].y, "the label stands above"
        inside = picture[4 * box[0].y + 3 : 4 * (box[0].y + box[0].side) - 3, 4 * box[0].x + 3 : 4 * box[0].x + 8]
        assert (inside == 90).all(), "the square is not filled"


def test_each_label_differs(pose: Build, scene: Scenes) -> None:
    widths = []
    for hands in (("left",), ("right",), ("right", "left")):
        picture = check_picture(scene(512, 512, pose()), [(CropBox(200, 200, 9), hands)])
        label = picture[:200]
        assert (label == 0).all(axis=2).sum() > 30, "black letters"
        widths.append(np.ptp(np.nonzero((label != 90).any(axis=(0, 2)))[0]))
    assert sorted(widths) == widths
    assert len(set(widths)) == 3


@pytest.mark.parametrize(
    "box", [CropBox(-40, -40, 60), CropBox(500, 500, 60), CropBox(-9, 505, 900), CropBox(3000, 9, 5)]
)
def test_squares_may_leave_the_canvas_but_not_their_labels(box: CropBox, pose: Build, scene: Scenes) -> None:
    picture = check_picture(scene(512, 512, pose()), [(box, ("right", "left"))])
    assert picture.shape == (512, 512, 3)
    assert (picture == 0).all(axis=2).sum() > 60


def test_people_and_masks_are_enlarged_with_the_canvas(pose: Build, scene: Scenes) -> None:
    hands = np.zeros((64, 64), np.uint8)
    hands[8:16, 32:48] = 2
    person = pose(body=[(5, 10, 50), (6, 30, 50)])
    picture = check_picture(scene(64, 64, person, pose(body=[(5, 10, 60), (6, 30, 60)]), hands=hands), [])
    tinted = np.argwhere(picture[..., 2] > 160)
    assert (tinted.min(axis=0).tolist(), tinted.max(axis=0).tolist()) == ([64, 256], [127, 383])
    assert min(picture[400, 160, 1], picture[480, 160, 1]) > 180

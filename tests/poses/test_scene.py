from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from h2d.data.schema import Sample
from h2d.data.square import square_sample
from h2d.poses.scene import Scene, frame_scene
from h2d.skeleton import HAND_SLICES, RIGHT_HAND

Build = Callable[..., np.ndarray]


def _random_scene(rng: np.random.Generator, *, with_masks: bool) -> Scene:
    width, height = rng.integers(40, 200, 2)
    pose = np.zeros((133, 3), np.float32)
    pose[:, :2] = rng.uniform((0, 0), (width, height), (133, 2))
    pose[:, 2] = rng.integers(0, 3, 133)
    hands = np.zeros((height, width), np.uint8)
    for label in (1, 2):
        x, y = rng.integers(0, width - 10), rng.integers(0, height - 10)
        hands[y : y + 10, x : x + 10] = label
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Scene("a", image, pose[None], hands if with_masks else None, "c", True)


def _boxes(scene: Scene) -> np.ndarray:
    """The masks of a pose that has none: the boxes around the hands' keypoints, as pixels."""
    hands = np.zeros(scene.image.shape[:2], np.uint8)
    for part in HAND_SLICES.values():
        points = scene.people[0, part]
        inside = np.rint(points[points[:, 2] > 0, :2]).astype(int)
        inside = inside[(inside < scene.image.shape[1::-1]).all(axis=1)]
        (x0, y0), (x1, y1) = inside.min(axis=0), inside.max(axis=0)
        hands[y0 : y1 + 1, x0 : x1 + 1] = 1
    return hands


@pytest.mark.parametrize("with_masks", [True, False])
def test_one_person_on_a_square_is_cut_as_a_sample_is(with_masks: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        scene = _random_scene(rng, with_masks=with_masks)
        hands = _boxes(scene) if scene.hands is None else scene.hands
        sample = square_sample(Sample("a", scene.image, hands, scene.people[0], "c", {}), 64)
        framed = frame_scene(scene, 64, 64)
        assert framed.image.tobytes() == sample.image.tobytes()
        assert framed.people.tobytes() == sample.pose.tobytes()
        assert framed.people.dtype == np.float32
        if with_masks:
            assert framed.hands is not None
            assert framed.hands.tobytes() == sample.hands.tobytes()
        else:
            assert framed.hands is None


@pytest.mark.parametrize(("width", "height"), [(64, 64), (48, 96), (96, 48), (40, 24), (17, 31)])
def test_the_canvas_has_exactly_the_size_asked_for(width: int, height: int) -> None:
    for seed in range(10):
        framed = frame_scene(_random_scene(np.random.default_rng(seed), with_masks=True), width, height)
        assert framed.image.shape == (height, width, 3)
        assert framed.hands is not None
        assert framed.hands.shape == (height, width)
        inside = framed.people[framed.people[..., 2] > 0, :2]
        assert (inside >= 0).all()
        assert (inside < (width, height)).all()


def test_a_landscape_picture_on_a_portrait_canvas(pose: Build, scene: Callable[..., Scene]) -> None:
    """300 x 100 to 50 x 100: a window of 50 x 100 fits, here from x = 175 to 225 around a person at 200."""
    person = pose(body=[(0, 190, 30), (5, 210, 50)], right=(200, 60, 10))
    framed = frame_scene(scene(300, 100, person), 50, 100)
    assert framed.people[0, 0].tolist() == [15, 30, 2]
    assert framed.people[0, RIGHT_HAND.start].tolist() == [25, 60, 2]


def test_both_axes_are_enlarged_alike(pose: Build, scene: Callable[..., Scene]) -> None:
    person = pose(body=[(0, 20, 20), (5, 60, 50)])
    framed = frame_scene(scene(90, 60, person), 180, 120)
    assert framed.people[0, [0, 5], :2].tolist() == [[40, 40], [120, 100]]


def test_all_people_and_their_hands_count(pose: Build, scene: Callable[..., Scene]) -> None:
    left, right = pose(right=(40, 60, 20)), pose(left=(260, 60, 20))
    alone, both = (frame_scene(scene(300, 100, *people), 60, 60) for people in ((left,), (left, right)))
    assert (alone.people[0, RIGHT_HAND, 2] == 2).all()
    assert both.people.shape == (2, 133, 3)
    assert (both.people[..., 2] > 0).sum() == 42, "the window grew to hold hands that are 220 pixels apart"
    span = both.people[1, 91, 0] - both.people[0, 112, 0]
    assert 40 < span < 60


def test_somebody_outside_is_dropped_if_others_remain(pose: Build, scene: Callable[..., Scene]) -> None:
    waving, distant = pose(right=(40, 60, 20)), pose(body=[(0, 290, 50), (5, 295, 60)])
    framed = frame_scene(scene(300, 100, waving, distant), 50, 50)
    assert framed.people.shape == (1, 133, 3)
    nobody = frame_scene(scene(100, 100, pose(body=[(0, 500, 500)])), 50, 50)
    assert nobody.people.shape == (1, 133, 3)
    assert not nobody.people[..., 2].any()


def test_what_lies_outside_the_picture_does_not_move_the_frame(pose: Build, scene: Callable[..., Scene]) -> None:
    person = pose(body=[(0, 50, 20)], right=(50, 60, 20))
    stray = person.copy()
    stray[RIGHT_HAND.stop - 1] = 5000, 60, 2
    frames = [frame_scene(scene(100, 200, one), 40, 80).people[0, 112] for one in (person, stray)]
    assert frames[0].tolist() == frames[1].tolist()

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep.synthetic import Rendered
from h2d.annotators.pose import FaceCounter, HolisticPose, _result
from h2d.skeleton import BODY, FACE, HAND_SLICES, LEFT_HAND, RIGHT_HAND


@pytest.fixture(scope="module")
def finder() -> HolisticPose:
    with HolisticPose() as pose:
        yield pose


def test_a_rendered_person_is_found_where_it_is(finder: HolisticPose, two_hands: Rendered) -> None:
    result = finder.detect(two_hands.image)
    assert result.found == {"body", "face", "left_hand", "right_hand"}
    assert 0.5 < result.score <= 1
    assert result.pose.dtype == np.float32
    assert result.pose.shape == (133, 3)
    both = (result.pose[:, 2] > 0) & (two_hands.pose[:, 2] > 0)
    errors = np.linalg.norm(result.pose[:, :2] - two_hands.pose[:, :2], axis=1)
    assert errors[FACE][both[FACE]].mean() < 8
    assert errors[LEFT_HAND][both[LEFT_HAND]].mean() < 12
    assert errors[RIGHT_HAND][both[RIGHT_HAND]].mean() < 12


def test_the_result_does_not_depend_on_what_came_before(finder: HolisticPose, two_hands: Rendered) -> None:
    finder.close()
    first = finder.detect(two_hands.image)
    assert np.array_equal(finder.detect(two_hands.image).pose, first.pose), "MediaPipe tracks hands in static mode, too"
    finder.detect(np.full((64, 300, 3), 90, np.uint8))
    assert np.array_equal(finder.detect(two_hands.image).pose, first.pose)


def test_nobody(finder: HolisticPose) -> None:
    result = finder.detect(np.full((80, 120, 3), 128, np.uint8))
    assert result.found == frozenset()
    assert result.score == 0
    assert not result.pose.any()


@pytest.mark.parametrize("image", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3))])
def test_arrays_that_would_break_the_graph_never_reach_it(finder: HolisticPose, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image must be uint8"):
        finder.detect(image)


def test_it_can_be_sent_to_a_process() -> None:
    assert pickle.loads(pickle.dumps(HolisticPose(0.3))).visibility == 0.3


def test_faces_are_counted(two_hands: Rendered) -> None:
    counter = FaceCounter()
    nobody = np.zeros((133, 3), np.float32)
    assert counter.count(two_hands.image, two_hands.pose) == 1
    assert counter.count(np.full((80, 120, 3), 128, np.uint8), nobody) == 0
    assert counter.count(np.concatenate([two_hands.image, two_hands.image], axis=1), two_hands.pose) == 2
    before_the_face = nobody.copy()
    before_the_face[LEFT_HAND] = two_hands.pose[FACE][:21]
    before_the_face[LEFT_HAND, 2] = 2
    before_the_face[LEFT_HAND][0, :2] = two_hands.pose[FACE, :2].min(axis=0)
    before_the_face[LEFT_HAND][1, :2] = two_hands.pose[FACE, :2].max(axis=0)
    assert counter.count(two_hands.image, before_the_face) == 0
    counter.close()


def landmarks(points: np.ndarray, visibility: float = 1.0) -> SimpleNamespace:
    return SimpleNamespace(landmark=[SimpleNamespace(x=x, y=y, visibility=visibility) for x, y in points])


def results(**parts: SimpleNamespace | None) -> SimpleNamespace:
    names = ("pose_landmarks", "face_landmarks", "left_hand_landmarks", "right_hand_landmarks")
    return SimpleNamespace(**{name: parts.get(name) for name in names})


def test_visibility_and_the_frame_decide_v() -> None:
    body = np.full((33, 2), 0.5)
    body[0] = (0.5, 1.2)
    pose = _result(results(pose_landmarks=landmarks(body, 0.6)), (100, 200, 3), 0.5).pose
    assert pose[0].tolist() == [0, 0, 0]
    assert pose[5].tolist() == [100, 50, 2]
    assert pose[18].tolist() == [0, 0, 0], "there is no small toe"
    assert not _result(results(pose_landmarks=landmarks(body, 0.4)), (100, 200, 3), 0.5).pose.any()


def test_one_hand_found_twice_is_kept_once_on_the_nearer_arm() -> None:
    body = np.full((33, 2), 0.5)
    body[15], body[16] = (0.2, 0.2), (0.8, 0.8)  # left and right wrist
    hand = np.array([0.2, 0.2]) + np.linspace(0, 0.1, 21)[:, None]
    found = _result(
        results(
            pose_landmarks=landmarks(body),
            left_hand_landmarks=landmarks(hand),
            right_hand_landmarks=landmarks(hand + 0.002),
        ),
        (100, 100, 3),
        0.5,
    )
    assert (found.pose[LEFT_HAND, 2] == 2).all()
    assert not found.pose[RIGHT_HAND].any()
    apart = _result(
        results(
            pose_landmarks=landmarks(body),
            left_hand_landmarks=landmarks(hand),
            right_hand_landmarks=landmarks(hand + 0.05),
        ),
        (100, 100, 3),
        0.5,
    )
    assert all((apart.pose[part, 2] == 2).all() for part in HAND_SLICES.values())
    assert apart.pose[BODY, 2].any()

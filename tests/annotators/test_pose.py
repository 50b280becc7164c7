from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep.synthetic import Rendered, render_person
from data_prep.synthetic.body import load_body
from data_prep.synthetic.labels import keypoints_3d
from data_prep.synthetic.person import sample_person
from h2d.annotators.pose import FaceCounter, HolisticPose, _hands, _result
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
    assert len(finder.hands(two_hands.image)) == 2
    assert np.array_equal(finder.detect(two_hands.image).pose, first.pose)


def test_hands_are_those_of_the_pose(finder: HolisticPose, two_hands: Rendered) -> None:
    pose = finder.detect(two_hands.image).pose
    left, right = finder.hands(two_hands.image)
    for hand, part in ((left, LEFT_HAND), (right, RIGHT_HAND)):
        assert hand.shape == (21, 3)
        assert hand.dtype == np.float32
        assert (pose[part, 2] > 0).all()
        np.testing.assert_array_equal(hand[:, :2], pose[part, :2])
        assert hand[0, 2] == 0
        assert np.ptp(hand[:, 2]) > 5


@pytest.mark.parametrize(("index", "sides"), [(1, ["left"]), (18, ["left", "right"])])
def test_z_is_the_true_depth_on_the_scale_of_x(finder: HolisticPose, index: int, sides: list[str]) -> None:
    person = sample_person(0, index, None)
    joints = keypoints_3d(person, load_body())
    seen = person.camera.project(joints, 512)  # x, y in pixels, depth in metres
    hands = finder.hands(render_person(0, index, 512, supersampling=1).image)
    for hand, part in zip(hands, map(HAND_SLICES.__getitem__, sides), strict=True):
        true = seen[part, 2] - seen[part, 2][0]
        assert np.corrcoef(true, hand[:, 2])[0, 1] > 0.6
        pixels_per_metre = np.linalg.norm(np.ptp(seen[part, :2], axis=0)) / np.linalg.norm(np.ptp(joints[part], axis=0))
        assert 0.5 < true @ hand[:, 2] / (true @ true) / pixels_per_metre < 2


def test_nobody(finder: HolisticPose) -> None:
    result = finder.detect(np.full((80, 120, 3), 128, np.uint8))
    assert result.found == frozenset()
    assert result.score == 0
    assert not result.pose.any()
    assert finder.hands(np.full((80, 120, 3), 128, np.uint8)) == []


@pytest.mark.parametrize("image", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3))])
def test_arrays_that_would_break_the_graph_never_reach_it(finder: HolisticPose, image: np.ndarray) -> None:
    for ask in (finder.detect, finder.hands):
        with pytest.raises(ValueError, match="image must be uint8"):
            ask(image)


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
    rows = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
    return SimpleNamespace(landmark=[SimpleNamespace(x=x, y=y, z=z, visibility=visibility) for x, y, z in rows])


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
    twice = results(
        pose_landmarks=landmarks(body),
        left_hand_landmarks=landmarks(hand),
        right_hand_landmarks=landmarks(hand + 0.002),
    )
    found = _result(twice, (100, 100, 3), 0.5)
    assert (found.pose[LEFT_HAND, 2] == 2).all()
    assert not found.pose[RIGHT_HAND].any()
    (kept,) = _hands(twice, (100, 100, 3), 0.5)
    np.testing.assert_array_equal(kept[:, :2], found.pose[LEFT_HAND, :2])
    two = results(
        pose_landmarks=landmarks(body),
        left_hand_landmarks=landmarks(hand),
        right_hand_landmarks=landmarks(hand + 0.05),
    )
    apart = _result(two, (100, 100, 3), 0.5)
    assert all((apart.pose[part, 2] == 2).all() for part in HAND_SLICES.values())
    assert apart.pose[BODY, 2].any()
    assert len(_hands(two, (100, 100, 3), 0.5)) == 2


def test_z_is_in_pixels_of_the_width_from_the_wrist_and_joints_may_lie_outside() -> None:
    points = np.full((21, 3), (0.5, 0.5, 0.1))
    points[8] = (1.25, -0.5, -0.15)
    (hand,) = _hands(
        results(pose_landmarks=landmarks(np.full((33, 2), 0.5)), right_hand_landmarks=landmarks(points)),
        (100, 200, 3),
        0.5,
    )
    np.testing.assert_allclose(hand[0], (100, 50, 0), atol=1e-4)
    np.testing.assert_allclose(hand[8], (250, -50, -50), atol=1e-4)

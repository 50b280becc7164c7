from __future__ import annotations

import numpy as np
import pytest

from data_prep.synthetic.body import EXPRESSIONS, load_body
from data_prep.synthetic.fields import body_fields
from data_prep.synthetic.geometry import MIRROR, SIDES, Y, Z, rotation, twist_degrees
from data_prep.synthetic.gestures import GESTURES, finger_rotations, mediapipe_points
from data_prep.synthetic.posing import HandTarget, arm_length, reach

NEUTRAL = np.zeros(len(EXPRESSIONS), np.float32)


def test_the_rest_pose_stays_where_it_is() -> None:
    body = load_body()
    skeleton = body.skeleton(body.rest_joints, {})
    np.testing.assert_allclose(skeleton.joints, body.rest_joints, atol=1e-9)
    posed = body.skin(body.rest_vertices, body.rest_joints, skeleton)
    np.testing.assert_allclose(posed, body.rest_vertices, atol=1e-5)


def test_shapes_are_adults_and_differ() -> None:
    body = load_body()
    shapes = [body.shape(sex, np.random.default_rng(k), NEUTRAL) for sex in ("man", "woman") for k in range(3)]
    heights = [float(np.ptp(shape.vertices[:, 2])) for shape in shapes]
    assert 1.3 < min(heights) < max(heights) < 2.1
    assert len(set(heights)) == len(heights)


def test_a_smile_moves_the_face_only() -> None:
    body = load_body()
    smile = NEUTRAL.copy()
    smile[:2] = 1
    moved = body.shape("man", np.random.default_rng(0), smile).vertices
    moved = np.linalg.norm(moved - body.shape("man", np.random.default_rng(0), NEUTRAL).vertices, axis=1)
    assert moved.max() > 0.003
    assert body_fields().head[moved > 1e-3].min() > 0.5


@pytest.mark.parametrize("side", SIDES)
def test_a_hand_reaches_its_target_in_the_asked_orientation(side: str) -> None:
    body, joints = load_body(), load_body().rest_joints
    letter = side[0].upper()
    shoulder = joints[body.bone[f"upperarm01.{letter}"]]
    wrist = shoulder + 0.8 * arm_length(body, joints) * np.array([0.1, -0.8, 0.2])
    target = HandTarget(wrist, fingers=Z, palm=-Y, elbow=-Z)
    hang = HandTarget(shoulder - 0.5 * Z, -Z, -Y, Y)
    skeleton = reach(body, joints, {}, {side: target, ("left" if side == "right" else "right"): hang})
    i = body.bone[f"wrist.{letter}"]
    np.testing.assert_allclose(skeleton.joints[i], wrist, atol=2e-3)
    fingers, palm = body.hand_axes(joints, side)
    np.testing.assert_allclose(skeleton.rotations[i] @ fingers, Z, atol=1e-6)
    assert (skeleton.rotations[i] @ palm) @ -Y > 0.99


def test_both_hands_are_mirror_images() -> None:
    body = load_body()
    gesture = GESTURES["peace"]
    turns = {side: finger_rotations(body, gesture, side, np.random.default_rng(0), 0.0) for side in SIDES}
    skeleton = body.skeleton(body.rest_joints, turns["left"] | turns["right"])
    left, right = (body.hand_joints(skeleton, side) for side in SIDES)
    np.testing.assert_allclose(right @ MIRROR, left, atol=2e-3)


def test_straight_fingers_are_longer_than_curled_ones() -> None:
    body = load_body()
    turns = finger_rotations(body, GESTURES["peace"], "left", np.random.default_rng(0), 0.0)
    points = body.hand_joints(body.skeleton(body.rest_joints, turns), "left")
    thumb, index, middle, ring, little = (np.linalg.norm(points[4 * k] - points[0]) for k in range(1, 6))
    assert min(index, middle) > 0.14 > max(thumb, ring, little)


def test_mediapipe_points_stay_on_a_straight_finger() -> None:
    straight = np.zeros((21, 3))
    for k in range(1, 21):
        straight[k] = (1 + (k - 1) % 4, 0, 0)
    moved = mediapipe_points(straight)
    np.testing.assert_array_equal(moved[:, 1:], 0)
    assert np.all(moved[4::4, 0] < 4), "tips are pulled back"


def test_twist_is_measured_around_the_axis() -> None:
    assert twist_degrees(rotation(Z, 37), Z) == pytest.approx(37, abs=1e-6)
    assert twist_degrees(rotation(Z, -120), Z) == pytest.approx(-120, abs=1e-6)
    assert twist_degrees(rotation(Y, 50), Z) == pytest.approx(0, abs=1e-6)

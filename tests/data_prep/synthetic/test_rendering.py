from __future__ import annotations

import cv2
import numpy as np
import pytest

from data_prep.synthetic import GESTURES, Rendered, render_person
from data_prep.synthetic.labels import hand_boxes
from h2d.skeleton import BODY_NAMES, FACE, HAND_LABELS, HAND_SLICES


def test_the_same_arguments_give_the_same_bytes() -> None:
    first = render_person(9, 3, 128)
    render_person(9, 4, 96, supersampling=1)
    again = render_person(9, 3, 128)
    for name in ("image", "hands", "person", "pose"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert (first.gestures, first.attributes) == (again.gestures, again.attributes)
    assert render_person(10, 3, 128).image.tobytes() != first.image.tobytes()


def test_arrays_have_the_promised_types(people: list[Rendered]) -> None:
    for person in people:
        height, width = person.hands.shape
        assert (person.image.shape, person.image.dtype) == ((height, width, 3), np.uint8)
        assert (person.person.shape, person.person.dtype) == ((height, width), np.uint8)
        assert (person.pose.shape, person.pose.dtype) == ((133, 3), np.float32)
        assert person.hands.dtype == np.uint8
        assert set(np.unique(person.hands)) <= {0, 1, 2}
        assert set(np.unique(person.person)) == {0, 255}


def test_every_gesture_is_rendered_with_finite_labels(people: list[Rendered]) -> None:
    assert {person.gestures[person.lead] for person in people} == set(GESTURES)
    for person in people:
        assert np.isfinite(person.pose).all()
        assert person.image.std() > 5
        assert all(isinstance(word, str) and word for word in person.attributes.values())


def test_labelled_keypoints_are_inside_the_image(people: list[Rendered]) -> None:
    for person in people:
        labelled = person.pose[person.pose[:, 2] > 0, :2]
        assert (labelled >= 0).all()
        assert (labelled < len(person.image)).all()
        assert set(np.unique(person.pose[:, 2])) <= {0, 1, 2}
        assert not person.pose[[18, 21]].any(), "small toes are never labelled"


def test_raised_hands_are_wholly_in_the_frame(people: list[Rendered]) -> None:
    for person in people:
        for side, gesture in person.gestures.items():
            labelled = (person.pose[HAND_SLICES[side], 2] > 0).sum()
            assert labelled == 21 if gesture else labelled in (0, 21)


def test_visible_fingers_lie_inside_the_mask_of_their_own_side(people: list[Rendered]) -> None:
    inside = total = 0
    for person in people:
        for side, label in HAND_LABELS.items():
            points = person.pose[HAND_SLICES[side]]
            x, y = points[points[:, 2] == 2, :2].astype(int).T
            mask = cv2.dilate((person.hands == label).astype(np.uint8), np.ones((3, 3), np.uint8))
            inside, total = inside + mask[y, x].sum(), total + len(x)
    assert total > 600
    assert inside / total > 0.995


def test_a_hand_has_a_mask_exactly_when_it_has_keypoints(people: list[Rendered]) -> None:
    for person in people:
        for side, label in HAND_LABELS.items():
            visible = (person.pose[HAND_SLICES[side], 2] == 2).any()
            assert not visible or (person.hands == label).any()
            if not (person.pose[HAND_SLICES[side], 2] > 0).any():
                assert not (person.hands == label).any()


def test_hands_are_part_of_the_person(people: list[Rendered]) -> None:
    for person in people:
        assert (person.person[person.hands > 0] == 255).all()


def test_left_is_the_persons_own_left(people: list[Rendered]) -> None:
    left, right = BODY_NAMES.index("left_shoulder"), BODY_NAMES.index("right_shoulder")
    for person in people:
        shoulders = person.pose[[left, right]]
        if (shoulders[:, 2] > 0).all():
            assert shoulders[0, 0] > shoulders[1, 0], "seen from the front, the left is on the right of the image"
        for side, wrist in (("left", BODY_NAMES.index("left_wrist")), ("right", BODY_NAMES.index("right_wrist"))):
            if person.gestures[side] and person.pose[wrist, 2] > 0:
                distance = np.linalg.norm(person.pose[wrist, :2] - person.pose[HAND_SLICES[side]][0, :2])
                assert distance < 0.08 * len(person.image)


def test_the_face_is_in_order(people: list[Rendered]) -> None:
    for person in people:
        face = person.pose[FACE]
        if (face[:, 2] > 0).all():
            assert face[30, 1] < face[8, 1], "the nose is above the chin"
            assert face[36, 0] < face[45, 0], "the right eye is on the left of the image"


def test_boxes_hold_mask_and_keypoints() -> None:
    hands, pose = np.zeros((100, 80), np.uint8), np.zeros((133, 3), np.float32)
    hands[20:30, 10:25] = HAND_LABELS["right"]
    pose[HAND_SLICES["right"]] = (12, 22, 2)
    pose[HAND_SLICES["right"].start] = (30.5, 40.2, 1)
    pose[HAND_SLICES["left"].start] = (70, 90, 0)
    assert hand_boxes(hands, pose) == {"right": (10, 20, 21, 21)}


@pytest.mark.parametrize("supersampling", [1, 2, 3])
def test_supersampling_changes_edges_only(supersampling: int) -> None:
    reference = render_person(2, 5, 96, supersampling=2)
    other = render_person(2, 5, 96, supersampling=supersampling)
    assert (other.person != reference.person).mean() < 0.02
    np.testing.assert_array_equal(other.pose[:, :2], reference.pose[:, :2])

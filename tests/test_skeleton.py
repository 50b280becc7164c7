import numpy as np

from h2d import skeleton


def test_groups_cover_the_133_keypoints_once():
    groups = (skeleton.BODY, skeleton.FEET, skeleton.FACE, skeleton.LEFT_HAND, skeleton.RIGHT_HAND)
    indices = [i for group in groups for i in range(skeleton.NUM_KEYPOINTS)[group]]
    assert indices == list(range(133))


def test_sigmas_are_the_official_ones():
    assert skeleton.SIGMAS.shape == (133,)
    assert skeleton.SIGMAS.sum().round(3) == 3.861  # the sum that COCO-WholeBody's table has
    assert skeleton.SIGMAS[skeleton.HANDS].sum().round(3) == 1.106
    assert (skeleton.SIGMAS[skeleton.LEFT_HAND] == skeleton.SIGMAS[skeleton.RIGHT_HAND]).all()


def test_flip_is_an_involution_that_swaps_sides():
    assert (skeleton.FLIP[skeleton.FLIP] == np.arange(133)).all()
    for index, name in enumerate(skeleton.BODY_NAMES):
        other = name.replace("left", "*").replace("right", "left").replace("*", "right")
        assert skeleton.BODY_NAMES[skeleton.FLIP[index]] == other
    assert (skeleton.FLIP[skeleton.LEFT_HAND] == np.arange(112, 133)).all()
    fixed = set(np.flatnonzero(np.arange(133) == skeleton.FLIP) - 23)
    assert {8, 27, 28, 29, 30, 33, 51, 57, 62, 66} == fixed - {-23}  # chin, nose bridge and tip, mid lips


def test_fingers_start_at_the_wrist_and_give_the_bones():
    assert skeleton.FINGERS.shape == (5, 5)
    assert (skeleton.FINGERS[:, 0] == 0).all()
    assert sorted(skeleton.FINGERS[:, 1:].ravel()) == list(range(1, 21))
    assert skeleton.HAND_EDGES[:5] == ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5))
    assert len(skeleton.HAND_EDGES) == 20


def test_tables_from_mediapipe_stay_inside_its_ranges():
    assert len(skeleton.MEDIAPIPE_BODY) == 17
    assert max(skeleton.MEDIAPIPE_BODY) < 33
    assert [i for i in skeleton.MEDIAPIPE_FEET if i is not None] == [31, 29, 32, 30]
    assert len(set(skeleton.MESH468_TO_FACE68)) == 68
    assert max(skeleton.MESH468_TO_FACE68) < 468


def test_openpose_tables_agree_in_length():
    assert len(skeleton.OPENPOSE_FROM_BODY) == len(skeleton.OPENPOSE_RGB) == 18
    assert len(skeleton.OPENPOSE_LIMBS) == 17
    assert skeleton.OPENPOSE_FROM_BODY[1] == (5, 6)  # the neck lies between the shoulders


def test_openpose_files_and_drawings_have_one_order():
    """The 18 joints of a file are those of the drawing; BODY_25 has the middle of the hips more, before them."""
    for body, joint in enumerate(skeleton.OPENPOSE18_BODY):
        assert skeleton.OPENPOSE_FROM_BODY[joint] == (body,)
    moved = [joint + (joint >= 8) for joint in skeleton.OPENPOSE18_BODY]
    assert list(skeleton.OPENPOSE25_BODY) == moved
    assert sorted((*skeleton.OPENPOSE25_BODY, *skeleton.OPENPOSE25_FEET)) == [0, *range(2, 8), *range(9, 25)]

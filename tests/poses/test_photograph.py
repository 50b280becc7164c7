from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from h2d.annotators.pose import PoseResult, found_parts
from h2d.detection import Detector, detect_enlarged
from h2d.errors import DataError
from h2d.images import encode_png
from h2d.poses.photograph import find_people, read_photograph
from h2d.poses.sources import read_scene
from h2d.skeleton import BODY, FACE

SIZE = (200, 400)


def _person(x: float, y: float, size: float, *, face: bool = True) -> np.ndarray:
    """Body keypoints along the sides of a box, all corners included, and a face on it."""
    pose = np.zeros((133, 3), np.float32)
    pose[BODY, 0] = x + size * np.tile([0, 0.4], 9)[:17]
    pose[BODY, 1] = y + size * np.repeat([*np.linspace(0, 1, 8), 0.5], 2)[:17]
    pose[BODY, 2] = 2
    if face:
        pose[FACE] = x + size * 0.2, y, 2
    return pose


class Eyes:
    """Sees, in a picture of coloured boxes, the first that is whole, unless it is too small in the picture."""

    def __init__(self, people: Sequence[np.ndarray], smallest: float = 0) -> None:
        self.people, self.smallest, self.calls = people, smallest, 0

    def picture(self) -> np.ndarray:
        image = np.zeros((*SIZE, 3), np.uint8)
        image[..., 1], image[..., 2] = np.arange(SIZE[0])[:, None], np.arange(SIZE[1]) // 2
        for number, pose in enumerate(self.people, 1):
            (x0, y0), (x1, y1) = pose[BODY, :2].min(axis=0).astype(int), pose[BODY, :2].max(axis=0).astype(int)
            image[y0 : y1 + 1, x0 : x1 + 1, 0] = 20 * number
        return image

    def __call__(self, images: Sequence[np.ndarray]) -> list[PoseResult]:
        self.calls += len(images)
        return [self._look(image) for image in images]

    def _look(self, image: np.ndarray) -> PoseResult:
        for number, person in enumerate(self.people, 1):
            rows, columns = np.nonzero(image[..., 0] == 20 * number)
            width, height = np.ptp(person[BODY, :2], axis=0)
            whole = len(rows) and np.ptp(rows) >= height - 1 and np.ptp(columns) >= width - 1
            if whole and height >= self.smallest * len(image[0]):
                pose = person.copy()
                pose[pose[:, 2] > 0, :2] += np.array([columns.min(), rows.min()]) - person[BODY, :2].min(axis=0)
                return PoseResult(pose, 1.0, found_parts(pose))
        return PoseResult(np.zeros((133, 3), np.float32), 0.0, frozenset())


def test_one_after_another_is_found() -> None:
    eyes = Eyes([_person(20, 40, 100), _person(150, 30, 120), _person(300, 60, 80)])
    found = find_people(eyes.picture(), eyes)
    assert [pose[0, 0] for pose in found] == [20, 150, 300]
    assert np.array_equal(np.stack(found), np.stack(eyes.people))


def test_small_people_are_found_in_parts_of_the_picture() -> None:
    eyes = Eyes([_person(20, 40, 100), _person(330, 60, 50)], smallest=0.25)  # of the width of what is looked at
    found = find_people(eyes.picture(), eyes)
    assert len(found) == 2
    assert np.abs(found[1] - eyes.people[1]).max() <= 1


def test_only_the_first_may_be_without_face_and_hands() -> None:
    bare = [_person(20, 40, 100, face=False), _person(150, 30, 120, face=False)]
    eyes = Eyes([*bare, _person(300, 60, 80)])
    assert [pose[0, 0] for pose in find_people(eyes.picture(), eyes)] == [20, 300]


def test_somebody_who_is_found_again_ends_the_search() -> None:
    person = _person(20, 40, 100)
    found = PoseResult(person, 1.0, found_parts(person))
    calls = []

    def stubborn(images: Sequence[np.ndarray]) -> list[PoseResult]:
        calls.append(images[0].shape[:2])
        return [found] if images[0].shape[:2] == SIZE else [PoseResult(person * 0, 0.0, frozenset())]

    assert len(find_people(Eyes([person]).picture(), stubborn)) == 1
    assert calls.count(SIZE) == 2


def test_the_largest_are_taken_first(tmp_path: Path) -> None:
    eyes = Eyes([_person(20, 40, 100), _person(150, 30, 120), _person(300, 60, 80)])
    path = tmp_path / "people.png"
    path.write_bytes(encode_png(eyes.picture()))
    found = {count: read_photograph(path, count, eyes).people[:, 0, 0].tolist() for count in (1, 2, 5)}
    assert found == {1: [20], 2: [150, 20], 5: [150, 20, 300]}
    eyes.calls = 0
    read_photograph(path, 1, eyes)
    assert eyes.calls == 1


@pytest.mark.parametrize("people", [1, 3])
def test_nobody_is_an_error_that_says_what_to_do(people: int, tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.write_bytes(encode_png(Eyes([]).picture()))
    with pytest.raises(DataError, match=r"empty\.png: nobody is found in it") as caught:
        read_photograph(path, people, Eyes([]))
    assert "JSON file of keypoints" in caught.value.hint


@pytest.fixture(scope="module")
def mediapipe() -> Detector:
    detect: Callable[[np.ndarray], PoseResult] = partial(detect_enlarged, detect_size=512)
    return lambda images: [detect(image) for image in images]


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("other/two_persons.jpg", 2),
        ("other/three_persons.jpg", 3),
        ("other/waiter.jpg", 1),
        ("other/astronaut.png", 1),
        ("coco_wholebody/000000040083.jpg", 2),
        ("hagrid/images/four/116292ef-5947-4d6c-a479-630ebb8a1050.jpg", 1),  # a room full of things
        ("hagrid/images/one/00b85ea4-8c5d-4302-b847-0a5de1d7dab2.jpg", 1),  # with a person on a screen behind
    ],
)
def test_real_photographs(file: str, count: int, photographs: Path, mediapipe: Detector) -> None:
    source = str(photographs / file)
    people = read_scene(source, 9, mediapipe).people
    assert len(people) == count
    one = read_scene(source, 1, mediapipe).people
    assert any(np.array_equal(one[0], pose) for pose in people)


def test_the_detector_of_its_own(photographs: Path) -> None:
    scene = read_scene(str(photographs / "other" / "waiter.jpg"))
    assert scene.people.shape == (1, 133, 3)
    assert scene.has_picture


def test_a_photograph_without_a_hand_is_no_error(photographs: Path, mediapipe: Detector) -> None:
    people = read_scene(str(photographs / "other" / "astronaut.png"), 1, mediapipe).people
    assert not people[:, 91:, 2].any()
    with pytest.raises(DataError, match="nobody is found"):
        read_scene(str(photographs / "other" / "no_person_coffee.png"), 3, mediapipe)

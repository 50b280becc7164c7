from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.errors import DataError
from h2d.images import encode_png
from h2d.poses.sources import read_scene
from h2d.skeleton import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND


def _flat(count: int, start: float, v: float = 2) -> list[float]:
    return [number for i in range(count) for number in (start + i, start + 2 * i, v)]


def _person(**changes: Any) -> dict[str, Any]:
    parts = {"foot": 6, "face": 68, "lefthand": 21, "righthand": 21}
    fields: dict[str, Any] = {"id": 7, "image_id": 1, "keypoints": _flat(17, 10)}
    for place, (name, count) in enumerate(parts.items()):
        fields |= {f"{name}_kpts": _flat(count, 100 + 100 * place, 1.0), f"{name}_valid": True}
    return fields | changes


def _write(folder: Path, *people: dict[str, Any], images: Any = None) -> Path:
    one = {"id": 1, "file_name": "one.png", "width": 60, "height": 40}
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images or [one], "annotations": list(people), "categories": []}))
    return path


def test_parts_arrive_at_their_places(tmp_path: Path) -> None:
    fields = _person()
    fields["keypoints"][2] = 1
    scene = read_scene(str(_write(tmp_path, fields)))
    places = {0: BODY, 100: FEET, 200: FACE, 300: LEFT_HAND, 400: RIGHT_HAND}
    for start, part in places.items():
        count = part.stop - part.start
        assert scene.people[0, part, 0].tolist() == list(range(start or 10, (start or 10) + count))
    assert scene.people[0, :2, 2].tolist() == [1, 2], "a body keeps its v"
    assert (scene.people[0, 17:, 2] == 2).all()
    assert scene.image.shape == (40, 60, 3)
    assert not scene.has_picture


def test_parts_that_are_not_valid_do_not_count(tmp_path: Path) -> None:
    fields = _person(lefthand_valid=False, face_kpts=_flat(68, 5, 0))
    del fields["foot_kpts"], fields["righthand_valid"]
    pose = read_scene(str(_write(tmp_path, fields))).people[0]
    counts = [(pose[part, 2] > 0).sum() for part in (BODY, FEET, FACE, LEFT_HAND, RIGHT_HAND)]
    assert counts == [17, 0, 0, 0, 21]


@pytest.mark.parametrize("place", ["one.png", "images/one.png"])
def test_a_picture_beside_the_file_is_used(place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(encode_png(np.full((40, 60, 3), 9, np.uint8)))
    path = _write(tmp_path, _person())
    scene = read_scene(f"{path}::one.png")
    assert scene.has_picture
    assert (scene.image == 9).all()
    (tmp_path / place).write_bytes(encode_png(np.full((41, 60, 3), 9, np.uint8)))
    with pytest.raises(DataError, match=r"one\.png is 60 x 41 pixels, .* says 60 x 40"):
        read_scene(str(path))


def test_one_of_several_images_is_chosen(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"val/{i}.png", "width": 60 + i, "height": 40} for i in (1, 2)]
    path = _write(tmp_path, _person(), _person(image_id=2, keypoints=_flat(17, 20)), images=images)
    for name in ("2", "val/2.png", "2.png"):
        scene = read_scene(f"{path}::{name}", 5)
        assert scene.people[:, 0, 0].tolist() == [20]
        assert scene.image.shape == (40, 62, 3)
        assert scene.name == f"{path}::{name}"
    with pytest.raises(DataError, match="lists 2 images") as caught:
        read_scene(str(path))
    assert "it has 1, 2" in caught.value.hint
    with pytest.raises(DataError, match="has no images called '3'"):
        read_scene(f"{path}::3")


def test_the_largest_come_first_and_crowds_are_left_out(tmp_path: Path) -> None:
    small, large = _person(), _person()
    large["righthand_kpts"] = [4 * number for number in _person()["righthand_kpts"]]
    crowd = {"id": 9, "image_id": 1, "iscrowd": 1}
    path = str(_write(tmp_path, crowd, small, large))
    assert read_scene(path, 9).people[:, 112, 0].tolist() == [1600, 400]
    assert read_scene(path).people.shape == (1, 133, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": _flat(16, 0)}, "annotation 7: keypoints has 48 numbers, not 51"),
        ({"keypoints": _flat(17, 0, 0.7)}, "annotation 7: keypoints: a v is not 0, 1 or 2"),
        ({"righthand_kpts": _flat(20, 0)}, "annotation 7: righthand_kpts has 60 numbers, not 63"),
        ({"face_kpts": "grin"}, "annotation 7: face_kpts is str 'grin', not a list"),
        ({"image_id": 5}, "it lists nobody"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_scene(str(_write(tmp_path, _person(**changes))))
    assert message in caught.value.message
    assert "annotations.json" in caught.value.message


def test_other_layouts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for images, labels in ((None, []), ([], []), ([3], []), ([{"id": 1}], [3]), ([{"id": 1}], [])):
        path.write_text(json.dumps({"images": images, "annotations": labels}))
        with pytest.raises(DataError, match=r"a\.json"):
            read_scene(str(path))


def test_the_real_annotations_are_read_as_they_are(photographs: Path) -> None:
    path = photographs / "coco_wholebody" / "test_coco_wholebody.json"
    content = json.loads(path.read_text())
    seen = 0
    for image in content["images"]:
        people = [a for a in content["annotations"] if a["image_id"] == image["id"] and a["num_keypoints"]]
        scene = read_scene(f"{path}::{image['id']}", 99)
        assert scene.has_picture
        assert len(scene.people) == len(people)
        for entry in people:
            body = np.array(entry["keypoints"], np.float32).reshape(17, 3)
            (pose,) = (pose for pose in scene.people if np.array_equal(pose[BODY], body))
            for name, part in (("lefthand", LEFT_HAND), ("righthand", RIGHT_HAND)):
                points = np.array(entry[f"{name}_kpts"], np.float32).reshape(21, 3)
                assert np.array_equal(pose[part, :2], points[:, :2])
                assert (pose[part, 2] > 0).any() == entry[f"{name}_valid"]
                seen += entry[f"{name}_valid"]
    assert seen == 10

"""Miniatures of the data sets of hands: rendered people, whose exact keypoints are carried back into space."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.cli import main as h2d_main
from h2d.data.schema import decode_mask, decode_npy
from h2d.images import encode_jpeg, encode_png, load_image
from h2d.skeleton import HAND_SLICES

ROTATION = np.array([[0.8, 0.0, 0.6], [0.36, 0.8, -0.48], [-0.48, 0.6, 0.64]])
CENTRE = -np.array([30.0, -20.0, 950.0]) @ ROTATION
"""The camera sees the origin of the world, near which joints stand that were not annotated."""
FOCAL, PRINCIPAL = np.array([900.0, 905.0]), np.array([190.0, 200.0])
TIPS_FIRST = [4 * finger + 4 - place for finger in range(5) for place in range(4)] + [0]
"""Hand keypoint of each InterHand2.6M joint of a hand."""
FITTED = [0, 1, *range(1, 18), *range(17, 21), 0]
"""Hand keypoint at or near each of the 24 joints of Re:InterHand's fits; 1, 18 and 23 are joints of their own."""
NO_JOINT = [1.0, 1.0, 1.0]
TRAIN_CAPTURE = "m--20220628--1327--BKS383--pilot--ProjectGoliath--ContinuousHandsy--two-hands"
TEST_CAPTURE = "m--20221215--0949--RNS217--pilot--ProjectGoliathScript--Hands--two-hands"


@dataclass(frozen=True)
class Person:
    """A rendered person: picture and exact labels."""

    split: str
    jpeg: bytes
    pose: np.ndarray
    hands: np.ndarray

    def in_space(self, side: str) -> np.ndarray:
        """(21, 3) mm: points that the camera of this file sees where the keypoints are."""
        x, y, v = self.pose[HAND_SLICES[side]].astype(np.float64).T
        pixels = np.where(v[:, None] > 0, np.stack([x, y], axis=1), -60.0)
        depth = 1000.0 + 4.0 * np.arange(21)[:, None]
        return np.concatenate([(pixels - PRINCIPAL) / FOCAL * depth, depth], axis=1) @ ROTATION + CENTRE


@pytest.fixture(scope="session")
def persons(people: Path) -> list[Person]:
    found = []
    for file in sorted(people.glob("annotations/*/*.json")):
        for name in sorted(json.loads(file.read_bytes())):
            exact = people / "exact" / file.stem / name
            pose = decode_npy(Path(f"{exact}.pose.npy").read_bytes())
            hands = decode_mask(Path(f"{exact}.hands.png").read_bytes())
            found.append(Person(file.parent.name, (people / file.stem / f"{name}.jpg").read_bytes(), pose, hands))
    return found


@dataclass
class MiniInterhand:
    """InterHand2.6M v1.0 of a few frames. Change its dictionaries, then ``write``."""

    root: Path
    data: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    joints: dict[str, dict[str, Any]] = field(default_factory=dict)
    poses: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, frame: int, camera: str, person: Person, jpeg: bytes | None, **changes: Any) -> dict[str, Any]:
        """One image with its annotation, which is returned."""
        split, images = person.split, self.root / "images" / person.split
        data = self.data.setdefault(split, {"images": [], "annotations": []})
        name = f"Capture0/0266_dh_pray/cam{camera}/image{frame}.jpg"
        if jpeg is not None:
            (images / name).parent.mkdir(parents=True, exist_ok=True)
            (images / name).write_bytes(jpeg)
        number = 7 + 10 * sum(len(part["images"]) for part in self.data.values())
        image = {"id": number, "file_name": name, "width": 384, "height": 384, "capture": 0, "subject": 5}
        data["images"].append(image | {"seq_name": "0266_dh_pray", "camera": camera, "frame_idx": frame})
        valid = [[int(flag)] for flag in _seen(person)]
        note = {"id": number, "image_id": number, "bbox": _box(person), "joint_valid": valid, "hand_type_valid": 1}
        data["annotations"].append(note | {"hand_type": "interacting"} | changes)
        self._add_camera(split, camera)
        self.joints.setdefault(split, {"0": {}})["0"][str(frame)] = _moment(person)
        self.poses[f"interhand/{split}_c0_{camera}_{frame}"] = person.pose
        return data["annotations"][-1]

    def write(self) -> Path:
        """Write the annotation files; returns the root."""
        for split in self.data:
            kinds = {"data": self.data, "camera": self.cameras, "joint_3d": self.joints}
            for kind, content in kinds.items():
                path = self.root / f"annotations/{split}/InterHand2.6M_{split}_{kind}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(content[split]))
        return self.root

    def _add_camera(self, split: str, camera: str) -> None:
        values = {"campos": CENTRE, "camrot": ROTATION, "focal": FOCAL, "princpt": PRINCIPAL}
        capture = self.cameras.setdefault(split, {"0": {kind: {} for kind in values}})["0"]
        for kind, value in values.items():
            capture[kind][camera] = value.tolist()


def _seen(person: Person) -> np.ndarray:
    return np.concatenate([person.pose[HAND_SLICES[side], 2][TIPS_FIRST] > 0 for side in ("right", "left")])


def _moment(person: Person) -> dict[str, Any]:
    points = np.concatenate([person.in_space(side)[TIPS_FIRST] for side in ("right", "left")])
    points[~_seen(person)] = NO_JOINT
    valid = [[bool(flag)] for flag in _seen(person)]
    return {"world_coord": points.tolist(), "joint_valid": valid, "hand_type": "interacting", "hand_type_valid": True}


def _box(person: Person) -> list[float]:
    """x, y, width, height of the tight box, enlarged x1.2 about its centre."""
    points = np.concatenate([part[part[:, 2] > 0, :2] for part in map(person.pose.__getitem__, HAND_SLICES.values())])
    low, size = points.min(axis=0).astype(np.float64), np.ptp(points, axis=0).astype(np.float64)
    return [*(low - 0.1 * size).tolist(), *(1.2 * size).tolist()]


@pytest.fixture
def mini_interhand(persons: list[Person], tmp_path: Path) -> MiniInterhand:
    """Every person by one colour camera, and one image of each kind that cannot be used, all of the first person."""
    mini = MiniInterhand(tmp_path / "interhand")
    for frame, person in enumerate(persons, 69148):
        mini.add(frame, "400026", person, person.jpeg)
    first = persons[0]
    mini.add(69148, "410053", first, first.jpeg)
    mini.add(69148, "400027", first, encode_jpeg(np.zeros((384, 384, 3), np.uint8)))
    mini.add(69148, "400028", first, None)
    mini.add(69148, "400029", first, first.jpeg, hand_type_valid=0)
    mini.add(69148, "400030", first, first.jpeg, joint_valid=[[0]] * 42)
    return mini


@dataclass
class MiniReinterhand:
    """Two captures of Re:InterHand, one of them an official test capture."""

    root: Path
    poses: dict[str, np.ndarray] = field(default_factory=dict)
    hands: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, capture: str, frame: int, person: Person) -> None:
        """One image with its mask, its joints in both forms, and the camera."""
        place, views = self.root / capture, self.root / capture / "Mugsy_cameras"
        images = views / "envmap_per_frame"
        translation = -ROTATION @ CENTRE
        camera = {"focal": FOCAL, "princpt": PRINCIPAL, "R": ROTATION, "t": translation}
        _write(views / "cam_params.json", {"400262": {name: value.tolist() for name, value in camera.items()}})
        _write(images / f"images/400262/{frame:06d}.png", encode_png(load_image(person.jpeg)))
        mask = np.where(person.hands > 0, 255, 0).astype(np.uint8)
        _write(images / f"masks/400262/{frame:06d}.png", encode_png(mask))
        hands = {side: _or_zero(person, side) for side in ("right", "left")}
        for side, points in hands.items():
            fitted = points[FITTED] + np.where(np.isin(np.arange(24), (1, 18, 23)), 25.0, 0.0)[:, None] * points.any()
            _write(place / f"orig_fits/{side}/Keypoints/keypoint-{frame:06d}.json", fitted.tolist())
        both = np.concatenate([hands[side][TIPS_FIRST] for side in ("right", "left")])
        _write(place / f"keypoints_orig/keypoints_orig/{frame}.json", both.tolist())
        key = f"reinterhand/{'-'.join(capture.split('--')[1:4])}_400262_{frame:06d}"
        self.poses[key], self.hands[key] = person.pose, person.hands


def _or_zero(person: Person, side: str) -> np.ndarray:
    return person.in_space(side) if (person.pose[HAND_SLICES[side], 2] > 0).any() else np.zeros((21, 3))


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


@pytest.fixture
def mini_reinterhand(persons: list[Person], tmp_path: Path) -> MiniReinterhand:
    """Every person but the last three in a training capture, those in a test capture."""
    mini = MiniReinterhand(tmp_path / "reinterhand")
    for frame, person in enumerate(persons, 98):
        mini.add(TEST_CAPTURE if frame >= 98 + len(persons) - 3 else TRAIN_CAPTURE, frame, person)
    return mini


@pytest.fixture
def without_unseen_hands() -> Callable[[np.ndarray], np.ndarray]:
    """The exact hands of a pose as InterHand2.6M can tell them: all visible ones, none whose wrist is not known."""

    def hands_alone(pose: np.ndarray) -> np.ndarray:
        alone = np.zeros_like(pose)
        for part in HAND_SLICES.values():
            if pose[part.start, 2] > 0:
                alone[part] = pose[part] * (1, 1, 0) + (0, 0, 2) * (pose[part, 2:] > 0)
        return alone

    return hands_alone


@pytest.fixture
def train_one_step(tmp_path: Path) -> Callable[[Path, str], None]:
    """Trains a task for one step on a folder of shards; what the loss is made of has to be a number."""

    def train(shards: Path, task: str) -> None:
        words = [f"data.shards={shards}", f"run.dir={tmp_path / 'runs'}", "preset=smoke", "image_size=64"]
        few = ["trainer.max_steps=1", "trainer.val_samples=2", "trainer.accelerator=cpu", "data.batch_size=2"]
        without_pictures = ["trainer.global_batch=2", "evaluation.samples=1", "evaluation.detector=none"]
        assert h2d_main(["train", task, *words, *few, *without_pictures]) == 0
        assert (tmp_path / "runs" / task / "checkpoints" / "step-0000001.ckpt").is_file()

    return train

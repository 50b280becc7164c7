from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.synthetic import Rendered, render_person
from h2d import weights
from h2d.errors import SetupError
from h2d.files import sha256_of
from h2d.metrics import foreground as module
from h2d.metrics.foreground import (
    Cut,
    PersonSam,
    SamForeground,
    SelfieForeground,
    cut_pairs,
    load_foreground,
    person_prompt,
)
from h2d.skeleton import FACE, LEFT_HAND

from ..annotators.conftest import tiny_sam

SIDE = 64


def pose_at(*places: tuple[float, float]) -> np.ndarray:
    """Body keypoints, the first ones."""
    pose = np.zeros((133, 3), np.float32)
    for number, place in enumerate(places):
        pose[number] = (*place, 2)
    return pose


IMAGE = np.random.default_rng(0).integers(1, 256, (40, 80, 3), dtype=np.uint8)
POSE = pose_at((20, 10), (60, 10), (20, 30), (60, 30), (40, 20))
MASKS = (  # rows and columns of the 40 x 80 image, and SAM's estimate
    ((slice(0, 40), slice(0, 40)), 0.99),  # holds two of the five keypoints
    ((slice(5, 35), slice(10, 70)), 0.8),  # all of them
    ((slice(0, 40), slice(0, 80)), 0.7),  # the whole image
)


class Questions:
    """A prompt encoder that notes what is asked."""

    def __init__(self, asked: list[tuple[np.ndarray, ...]]) -> None:
        self.asked = asked

    def __call__(self, points: Any, boxes: Any, masks: None) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked += [tuple(part.numpy() for part in row) for row in zip(*points, boxes, strict=True)]
        return boxes, boxes

    def get_dense_pe(self) -> None:
        return None


class Steps(torch.nn.Module):
    """The parts of SAM's network that are called, with answers that are known beforehand."""

    mask_threshold = 0.0

    def __init__(self, masks: Sequence[tuple[tuple[slice, slice], float]] = MASKS) -> None:
        super().__init__()
        self.answers, self.asked = masks, []
        self.image_encoder = torch.nn.Identity()
        self.image_encoder.img_size = SIDE
        self.prompt_encoder, self.mask_decoder = Questions(self.asked), self._decode

    def preprocess(self, picture: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(picture.float(), (0, SIDE - picture.shape[2], 0, SIDE - picture.shape[1]))

    def _decode(self, multimask_output: bool, **embeddings: Any) -> tuple[torch.Tensor, torch.Tensor]:
        assert multimask_output
        masks = torch.full((1, len(self.answers), 40, 80), -1.0)
        for number, (place, _) in enumerate(self.answers):
            masks[0, number][place] = 1.0
        return masks, torch.tensor([[estimate for _, estimate in self.answers]])

    def postprocess_masks(self, masks: torch.Tensor, *sizes: Any) -> torch.Tensor:
        return masks


def by_sam(masks: Sequence[tuple[tuple[slice, slice], float]] = MASKS) -> tuple[SamForeground, Steps]:
    steps = Steps(masks)
    return SamForeground(PersonSam(steps, "tiny", "cpu")), steps


def test_the_surest_mask_that_holds_the_keypoints_is_taken() -> None:
    foreground, _ = by_sam()
    (cut,) = foreground.cut([IMAGE], [POSE])
    assert cut.image is not None
    expected = np.zeros_like(IMAGE)
    expected[5:35, 10:70] = IMAGE[5:35, 10:70]
    assert np.array_equal(cut.image, expected)


def test_four_of_five_keypoints_are_enough_and_three_are_not() -> None:
    four = ((slice(0, 40), slice(15, 65)), 0.5)
    foreground, _ = by_sam([four, four, four])
    assert foreground.cut([IMAGE], [pose_at((20, 10), (60, 10), (20, 30), (60, 30), (70, 20))])[0].image is not None
    (cut,) = foreground.cut([IMAGE], [pose_at((20, 10), (60, 10), (20, 30), (75, 30), (70, 20))])
    assert cut == (None, "nobody to cut out: no mask of SAM holds 80% of the keypoints")


def test_what_sam_is_asked() -> None:
    foreground, steps = by_sam()
    pose = POSE.copy()
    pose[LEFT_HAND.start] = (64, 20, 1)
    pose[FACE.start] = (10, 5, 2)  # widens the box, but is no point
    pose[16] = (500, 20, 2)  # outside the frame
    foreground.cut([IMAGE], [pose])
    points, labels, box = steps.asked[0]
    scale = SIDE / 80
    assert points == pytest.approx(scale * np.array([*POSE[:5, :2], (64, 20)]))
    assert labels.tolist() == [1] * 6
    assert box == pytest.approx(scale * np.array((10 - 5.4, 5 - 2.5, 64 + 5.4, 30 + 2.5)))


def test_the_box_ends_at_the_frame() -> None:
    prompt = person_prompt(IMAGE, pose_at((0, 0), (79, 39)), SIDE)
    assert prompt is not None
    assert prompt.box == pytest.approx(np.array((0, 0, 79, 39)) * 0.8)
    assert prompt.size == (40, 80)


def test_poses_without_points_have_a_reason_and_lose_no_other_image() -> None:
    foreground, _ = by_sam()
    only_a_face = np.zeros((133, 3), np.float32)
    only_a_face[FACE] = (20, 20, 2)
    cuts = foreground.cut([IMAGE] * 3, [only_a_face, POSE, np.zeros((133, 3), np.float32)])
    assert [cut.image is None for cut in cuts] == [True, False, True]
    assert cuts[0].reason == "nobody to cut out: the pose has no keypoint of body or hands"


def test_the_network_of_sam_itself_answers() -> None:
    torch.manual_seed(1)
    sam = PersonSam(tiny_sam().eval(), "tiny", "cpu")
    prompts = [person_prompt(IMAGE, pose, sam.side) for pose in (POSE, pose_at((40, 20)))]
    for answer in sam.answer([prompt for prompt in prompts if prompt is not None]):
        assert answer.mask.shape == (40, 80)
        assert answer.mask.dtype == bool


@pytest.fixture(scope="module")
def person() -> Rendered:
    return render_person(0, 0, 256, supersampling=1)


def test_selfie_segmentation_keeps_the_person(person: Rendered) -> None:
    with SelfieForeground() as foreground:
        cut, nobody = foreground.cut([person.image, np.zeros_like(person.image)], [person.pose] * 2)
    assert cut.image is not None
    kept = (cut.image > 0).any(axis=2)
    assert np.array_equal(cut.image[kept], person.image[kept])
    x, y = person.pose[5:7, :2].mean(axis=0).astype(int)  # between the shoulders
    assert kept[y, x]
    assert 0.05 < kept.mean() < 0.9
    assert nobody == (None, "nobody to cut out: selfie segmentation sees nobody")


def test_the_segmenting_process_loads_no_torch() -> None:
    command = "import sys, h2d.metrics.foreground; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0


class Echo:
    """Cuts nothing, and notes the poses."""

    name = made_by = sha256 = "echo"

    def __init__(self) -> None:
        self.poses: list[np.ndarray] = []

    def cut(self, images: Sequence[np.ndarray], poses: Sequence[np.ndarray]) -> list[Cut]:
        self.poses += list(poses)
        return [Cut(image) for image in images]


def test_the_pose_asked_for_stands_in_where_nobody_was_found() -> None:
    nobody, asked, truth = np.zeros((133, 3), np.float32), pose_at((1, 1)), pose_at((2, 2))
    echo = Echo()
    pairs = cut_pairs(echo, [IMAGE, IMAGE], [POSE, nobody], [asked, asked], [IMAGE, IMAGE], [truth, nobody])
    assert [pose is other for pose, other in zip(echo.poses, [POSE, asked, truth, nobody], strict=True)] == [True] * 4
    assert len(pairs) == 2
    assert pairs[0][1].image is IMAGE


def test_sam_is_taken_where_its_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import segment_anything

    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path))
    without = load_foreground("cpu")
    assert isinstance(without, SelfieForeground)
    assert (without.name, without.sha256) == ("fg_selfie", "")
    assert without.made_by == f"mediapipe-{version('mediapipe')} selfie segmentation"
    without.close()
    official: Any = next(entry for entry in weights.WEIGHTS if entry.name == "sam-vit-h")
    path = tmp_path / official.file
    torch.save(tiny_sam().state_dict(), path)
    entries = (replace(official, size=path.stat().st_size),)
    for place in (weights, module):
        monkeypatch.setattr(place, "WEIGHTS", entries)
    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_h", partial(tiny_sam))
    found = load_foreground("cpu")
    assert isinstance(found, SamForeground)
    assert (found.name, found.made_by, found.sha256) == ("fg", "sam-vit_h float32", sha256_of(path))
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(SetupError, match="not a checkpoint"):
        load_foreground("cpu")

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from data_prep.synthetic import Rendered
from h2d.annotators import sam as module
from h2d.annotators.prompts import Prompt, hand_prompts
from h2d.annotators.sam import Sam, load_sam, sam_model
from h2d.errors import SetupError
from h2d.skeleton import HAND_SLICES

from .conftest import tiny_sam


@pytest.fixture
def network() -> torch.nn.Module:
    """A network that looks at the picture and at the prompt, unlike the one of the checkpoint."""
    torch.manual_seed(1)
    return tiny_sam().eval()


@pytest.fixture
def prompts(two_hands: Rendered) -> list[Prompt]:
    """Four questions: pictures of three shapes, and three numbers of points."""
    right, left = hand_prompts(two_hands.image, two_hands.pose, 128).values()
    fewer = replace(right, points=right.points[:7], labels=right.labels[:7])
    low = replace(left, picture=left.picture[:90], points=left.points[3:], labels=left.labels[3:])
    return [right, left, fewer, low]


def test_it_answers_as_the_official_predictor_does(network: Any, two_hands: Rendered) -> None:
    predictor, sam = SamPredictor(network), Sam(network, "tiny", "cpu")
    prompts = list(hand_prompts(two_hands.image, two_hands.pose, sam.side).values())
    for prompt, answer in zip(prompts, sam.answer(prompts), strict=True):
        predictor.set_image(two_hands.image[prompt.place])
        scale = np.array(prompt.picture.shape[1::-1]) / prompt.size[::-1]
        masks, estimates, _ = predictor.predict(
            point_coords=prompt.points / scale,
            point_labels=prompt.labels,
            box=prompt.box / np.tile(scale, 2),
            multimask_output=False,
        )
        assert 0.01 < masks.mean() < 0.99, "the comparison means something"
        assert (answer.mask == masks[0]).mean() > 0.9999
        assert answer.iou == pytest.approx(float(estimates[0]), abs=1e-5)


def test_an_answer_does_not_depend_on_the_batch(network: Any, prompts: list[Prompt]) -> None:
    alone = Sam(network, "tiny", "cpu", batch=1).answer(prompts)
    for batch in (2, 3, 4):
        for answer, expected in zip(Sam(network, "tiny", "cpu", batch=batch).answer(prompts), alone, strict=True):
            assert (answer.mask == expected.mask).mean() > 0.9999
            assert answer.iou == pytest.approx(expected.iou, abs=1e-5)


def test_crops_go_through_the_encoder_together(network: Any, prompts: list[Prompt]) -> None:
    sizes = []
    hook = network.image_encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    Sam(network, "tiny", "cpu", batch=3).answer(prompts)
    hook.remove()
    assert sizes == [(3, 3, 128, 128), (1, 3, 128, 128)]


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(network: Any, prompts: list[Prompt]) -> None:
    expected = Sam(network, "tiny", "cpu", batch=1).answer(prompts)
    sizes = []

    def two_fit(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = network.image_encoder.register_forward_pre_hook(two_fit)
    answers = Sam(network, "tiny", "cpu", batch=4).answer(prompts)
    hook.remove()
    assert sizes == [4, 2, 2]
    assert [answer.mask.shape for answer in answers] == [answer.mask.shape for answer in expected]
    assert all((a.mask == b.mask).mean() > 0.9999 for a, b in zip(answers, expected, strict=True))


def test_half_precision_changes_little(network: Any, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Sam(network, "tiny", "cpu").answer(prompts)
    monkeypatch.setattr(module, "number_format", lambda device: torch.bfloat16)
    half = Sam(network, "tiny", "cpu")
    assert half.made_by == "sam-tiny bfloat16"
    for answer, expected in zip(half.answer(prompts), exact, strict=True):
        assert (answer.mask == expected.mask).mean() > 0.95
        assert answer.iou == pytest.approx(expected.iou, abs=0.05)
        assert answer.iou != expected.iou


def test_nothing_asked_nothing_answered(network: Any) -> None:
    assert Sam(network, "tiny", "cpu").answer([]) == []


def test_wrong_checkpoints_are_one_clear_error(tmp_path: Path, tiny_sam_checkpoint: Path) -> None:
    with pytest.raises(SetupError, match="does not exist"):
        load_sam(tmp_path / "sam_vit_h_4b8939.pth", "vit_h")
    with pytest.raises(SetupError, match="architecture"):
        sam_model(tmp_path / "weights.pth")
    damaged = tmp_path / "sam_vit_b_damaged.pth"
    damaged.write_bytes(tiny_sam_checkpoint.read_bytes()[:5000])
    with pytest.raises(SetupError, match="not a checkpoint of SAM vit_b"):
        load_sam(damaged, sam_model(damaged))
    other = tmp_path / "sam_vit_b_other.pth"
    torch.save({"weights": torch.zeros(3)}, other)
    with pytest.raises(SetupError, match="not a checkpoint of SAM vit_b"):
        load_sam(other, "vit_b")
    evil = tmp_path / "sam_vit_b_evil.pth"
    torch.save({"weights": Payload(tmp_path / "ran")}, evil)
    with pytest.raises(SetupError, match="not a checkpoint of SAM vit_b"):
        load_sam(evil, "vit_b")
    assert not (tmp_path / "ran").exists()


class Payload:
    """What a malicious checkpoint holds: unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


def test_pictures_of_any_shape(network: Any) -> None:
    for height, width in ((1, 9), (9, 1), (300, 40), (128, 128)):
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        pose = np.zeros((133, 3), np.float32)
        pose[HAND_SLICES["left"]] = (width / 2, height / 2, 2)
        (prompt,) = hand_prompts(image, pose, 128).values()
        assert Sam(network, "tiny", "cpu").answer([prompt])[0].mask.shape == image[prompt.place].shape[:2]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.synthetic import Rendered
from h2d.annotators import hand_masks
from h2d.annotators.hand_masks import hands_of, window
from h2d.annotators.segment import SAM_CROP, GrabCutSegmenter, SamSegmenter, negatives, sam_model
from h2d.errors import DataError, SetupError
from h2d.skeleton import HAND_LABELS


def test_grabcut_agrees_with_the_exact_masks(two_hands: Rendered) -> None:
    result = GrabCutSegmenter().segment(two_hands.image, two_hands.pose)
    for label in HAND_LABELS.values():
        found, truth = result.hands == label, two_hands.hands == label
        assert (found & truth).sum() / (found | truth).sum() > 0.75
    assert result.person is not None
    person, truth = result.person > 0, two_hands.person > 0
    assert (person & truth).sum() / (person | truth).sum() > 0.8


def test_grabcut_gives_the_same_mask_twice(two_hands: Rendered) -> None:
    first = GrabCutSegmenter().segment(two_hands.image, two_hands.pose)
    assert np.array_equal(first.hands, GrabCutSegmenter().segment(two_hands.image, two_hands.pose).hands)


def test_sam_is_asked_about_each_hand_in_its_own_crop(
    tiny_sam_checkpoint: Path, two_hands: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = SamSegmenter(tiny_sam_checkpoint, device="cpu")
    assert segmenter.made_by == "sam-vit_b"
    monkeypatch.setattr(hand_masks, "AREA_RANGE", (0, 1e9))
    asked = []
    predict = segmenter._predictor.predict
    monkeypatch.setattr(segmenter._predictor, "predict", lambda **prompt: asked.append(prompt) or predict(**prompt))

    result = segmenter.segment(two_hands.image, two_hands.pose)

    assert len(asked) == 2
    expected = np.zeros(two_hands.hands.shape, bool)
    for prompt, points in zip(asked, hands_of(two_hands.pose).values(), strict=True):
        place = window(points, two_hands.image.shape[:2], SAM_CROP)
        expected[place] = True
        corner = (place[1].start, place[0].start)
        assert np.allclose(prompt["point_coords"][:21] + corner, points)
        assert prompt["point_labels"].tolist()[:21] == [1] * 21
        assert set(prompt["point_labels"].tolist()[21:]) <= {0}
        x0, y0, x1, y1 = prompt["box"]
        assert 0 <= x0 < x1 < place[1].stop - place[1].start
        assert 0 <= y0 < y1 < place[0].stop - place[0].start
    assert (result.hands[expected] > 0).all(), "the mask is back where the crop was cut"
    assert result.scores["right"]["iou"] == pytest.approx(0.9)


def test_a_mask_that_sam_doubts_is_refused(
    tiny_sam_checkpoint: Path, two_hands: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_masks, "AREA_RANGE", (0, 1e9))
    segmenter = SamSegmenter(tiny_sam_checkpoint, device="cpu")
    torch.nn.init.constant_(segmenter._predictor.model.mask_decoder.iou_prediction_head.layers[-1].bias, 0.3)
    with pytest.raises(DataError, match=r"not sure of its mask: right hand, 0\.30"):
        segmenter.segment(two_hands.image, two_hands.pose)


def test_points_beside_a_hand_never_lie_on_it(two_hands: Rendered) -> None:
    hands = hands_of(two_hands.pose)
    for side in hands:
        for x, y in negatives(side, two_hands.pose, hands).astype(int):
            if 0 <= x < 512 and 0 <= y < 512:
                assert two_hands.hands[y, x] != HAND_LABELS[side]


def test_wrong_checkpoints_are_one_clear_error(tmp_path: Path, tiny_sam_checkpoint: Path) -> None:
    with pytest.raises(SetupError, match="does not exist"):
        SamSegmenter(tmp_path / "sam_vit_h_4b8939.pth")
    with pytest.raises(SetupError, match="architecture"):
        sam_model(tmp_path / "weights.pth")
    damaged = tmp_path / "sam_vit_b_damaged.pth"
    damaged.write_bytes(tiny_sam_checkpoint.read_bytes()[:5000])
    with pytest.raises(SetupError, match="not a checkpoint of SAM vit_b"):
        SamSegmenter(damaged)
    other = tmp_path / "sam_vit_b_other.pth"
    torch.save({"weights": torch.zeros(3)}, other)
    with pytest.raises(SetupError, match="not a checkpoint of SAM vit_b"):
        SamSegmenter(other)

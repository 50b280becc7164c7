from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.synthetic import Rendered
from h2d.annotators import hand_masks
from h2d.annotators.hand_masks import hands_of
from h2d.annotators.hand_regions import hand_regions
from h2d.annotators.segment import GrabCutSegmenter, PersonSegmenter, SamSegmenter
from h2d.errors import DataError
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


def test_the_person_does_not_depend_on_the_image_before(two_hands: Rendered) -> None:
    person = PersonSegmenter()
    first = person.probability(two_hands.image).copy()
    person.probability(np.full((300, 200, 3), 90, np.uint8))
    assert np.array_equal(person.probability(two_hands.image), first)


@pytest.fixture
def segmenter(tiny_sam_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> SamSegmenter:
    monkeypatch.setattr(hand_masks, "AREA_RANGE", (0, 1e9))
    return SamSegmenter.load(tiny_sam_checkpoint, device="cpu")


def test_what_sam_finds_is_kept_as_far_as_the_hand_reaches(segmenter: SamSegmenter, two_hands: Rendered) -> None:
    result = segmenter.segment(two_hands.image, two_hands.pose)  # this SAM takes all it sees for a hand
    within, crops = np.zeros(two_hands.hands.shape, bool), np.zeros(two_hands.hands.shape, bool)
    for points in hands_of(two_hands.pose).values():
        within |= hand_regions(points, within.shape).possible
    for prompt in segmenter.ask(two_hands.image, two_hands.pose).values():
        crops[prompt.place] = True
    assert (result.hands[within & crops] > 0).all()
    assert (within & crops).sum() > 0.5 * (result.hands > 0).sum() > 100
    assert not result.hands[~(cv2.dilate(within.astype(np.uint8), hand_masks.DILATION) > 0)].any()
    assert result.scores["right"]["iou"] == pytest.approx(0.9)
    assert result.person is not None
    assert segmenter.made_by == "sam-vit_b float32"


def test_images_are_answered_together_in_their_order(segmenter: SamSegmenter, two_hands: Rendered) -> None:
    both = segmenter.ask(two_hands.image, two_hands.pose)
    left = {"left": both["left"]}
    answers = segmenter.answer([both, left, {}])
    assert [list(answer) for answer in answers] == [["right", "left"], ["left"], []]
    assert all(answer.mask.shape == both[side].size for side, answer in answers[0].items())


def test_a_mask_that_sam_doubts_is_refused(segmenter: SamSegmenter, two_hands: Rendered) -> None:
    prompts = segmenter.ask(two_hands.image, two_hands.pose)
    answers = {side: answer._replace(iou=0.3) for side, answer in segmenter.answer([prompts])[0].items()}
    with pytest.raises(DataError, match=r"not sure of its mask: right hand, 0\.30"):
        segmenter.conclude(two_hands.image, two_hands.pose, prompts, answers)


def test_a_hand_that_sam_misses_is_refused(segmenter: SamSegmenter, two_hands: Rendered) -> None:
    prompts = segmenter.ask(two_hands.image, two_hands.pose)
    answers = segmenter.answer([prompts])[0]
    answers["left"].mask[:] = False
    with pytest.raises(DataError, match=r"misses keypoints: left hand, 0\.00 inside"):
        segmenter.conclude(two_hands.image, two_hands.pose, prompts, answers)


def test_hands_that_overlap_are_both_labelled(segmenter: SamSegmenter, two_hands: Rendered) -> None:
    pose = two_hands.pose.copy()
    right, left = (points.mean(axis=0) for points in hands_of(pose).values())
    part = hand_masks.HAND_SLICES["left"]
    pose[part, :2] += right - left + 5  # pixels
    result = segmenter.segment(two_hands.image, pose)
    assert {0, *HAND_LABELS.values()} == set(np.unique(result.hands))

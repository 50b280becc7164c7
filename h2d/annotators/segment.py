"""Hand masks from an image and its keypoints: SAM as in Section IV-A, or a fallback that needs no weights.

Both look at a crop around one hand: SAM's masks have cells of 1/256 of what it is shown, which on a whole photograph
are the checkerboard edges of Fig. 3. Both end with the paper's dilation of 5 x 5.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from h2d.annotators.grabcut import cut_hand
from h2d.annotators.hand_masks import Segmentation, hands_of, join, judge, mend
from h2d.annotators.hand_regions import hand_regions
from h2d.annotators.pose import quiet_stderr
from h2d.annotators.prompts import Prompt, hand_prompts
from h2d.annotators.sam import Answer, Sam, load_sam, sam_model
from h2d.errors import DataError

SAM_MIN_IOU = 0.7


class Segmenter(Protocol):
    """What finds the hands. ``made_by`` is its name in a sample's metadata."""

    made_by: str

    def segment(self, image: np.ndarray, pose: np.ndarray) -> Segmentation:
        """Masks of every hand of ``pose`` (133, 3) in uint8 ``image`` (H, W, 3); DataError if one is not credible."""


class PersonSegmenter:
    """MediaPipe's selfie segmentation, whose weights are in its wheel. Built when first used; threads may share it."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._lock = threading.Lock()

    def probability(self, image: np.ndarray) -> np.ndarray:
        """float32 ``(H, W)`` in [0, 1]: how surely each pixel of ``(H, W, 3)`` shows a person."""
        with self._lock:
            if self._graph is not None:
                return self._graph.process(image).segmentation_mask
            with quiet_stderr():
                from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

                self._graph = SelfieSegmentation(model_selection=0)
                return self._graph.process(image).segmentation_mask


class GrabCutSegmenter:
    """Hands without downloaded weights, see ``h2d.annotators.grabcut``."""

    made_by = "grabcut-1"

    def __init__(self) -> None:
        self._person = PersonSegmenter()

    def segment(self, image: np.ndarray, pose: np.ndarray) -> Segmentation:
        """See ``Segmenter``."""
        person = self._person.probability(image)
        masks = {side: mend(cut_hand(image, points, person), points) for side, points in hands_of(pose).items()}
        hands = join(masks, pose)
        return Segmentation(hands, _as_mask(person), judge(hands, pose))


class SamSegmenter:
    """Segment Anything, asked with the keypoints of each hand.

    ``ask``, ``answer`` and ``conclude`` are the steps of ``segment``, for callers that have many images: only
    ``answer`` needs the device, and it takes the prompts of several images.
    """

    def __init__(self, sam: Sam) -> None:
        self._sam = sam
        self._person = PersonSegmenter()
        self.made_by = sam.made_by

    @classmethod
    def load(cls, checkpoint: Path, model: str = "auto", device: str = "auto", batch: int = 8) -> SamSegmenter:
        """With the weights of an official checkpoint.

        Args:
            checkpoint: a file such as ``sam_vit_h_4b8939.pth``.
            model: ``vit_h``, ``vit_l``, ``vit_b``, or ``auto`` to tell from the file's name.
            device: see ``Sam``.
            batch: see ``Sam``.

        Raises:
            SetupError: the checkpoint is missing, damaged or of another architecture, or the device is not there.
        """
        name = sam_model(checkpoint) if model == "auto" else model
        return cls(Sam(load_sam(checkpoint, name), name, device, batch))

    def segment(self, image: np.ndarray, pose: np.ndarray) -> Segmentation:
        """See ``Segmenter``."""
        prompts = self.ask(image, pose)
        return self.conclude(image, pose, prompts, self.answer([prompts])[0])

    def ask(self, image: np.ndarray, pose: np.ndarray) -> dict[str, Prompt]:
        """What SAM is to be asked about an image, by side."""
        return hand_prompts(image, pose, self._sam.side)

    def answer(self, images: list[dict[str, Prompt]]) -> list[dict[str, Answer]]:
        """SAM's answers to the prompts of several images."""
        answers = iter(self._sam.answer([prompt for prompts in images for prompt in prompts.values()]))
        return [{side: next(answers) for side in prompts} for prompts in images]

    def conclude(
        self, image: np.ndarray, pose: np.ndarray, prompts: Mapping[str, Prompt], answers: Mapping[str, Answer]
    ) -> Segmentation:
        """The masks of an image, from what SAM answered.

        Raises:
            DataError: a mask is not credible.
        """
        masks = {}
        for side, points in hands_of(pose).items():
            masks[side] = mend(_placed(answers[side].mask, prompts[side].place, points, image.shape[:2]), points)
        joined = join(masks, pose)
        scores = {side: score | {"iou": answers[side].iou} for side, score in judge(joined, pose).items()}
        unsure = [f"{side} hand, {score['iou']:.2f}" for side, score in scores.items() if score["iou"] < SAM_MIN_IOU]
        if unsure:
            raise DataError(f"SAM is not sure of its mask: {', '.join(unsure)}")
        return Segmentation(joined, _as_mask(self._person.probability(image)), scores)


def _placed(found: np.ndarray, place: tuple[slice, slice], points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What was found in a place of an image, without what the hand cannot reach: SAM likes to go on along the arm."""
    mask = np.zeros(shape, bool)
    corner = (place[1].start, place[0].start)
    mask[place] = found & hand_regions(points - corner, found.shape).possible
    return mask


def _as_mask(probability: np.ndarray) -> np.ndarray:
    return np.where(probability > 0.5, 255, 0).astype(np.uint8)

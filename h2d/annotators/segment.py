"""Hand masks from an image and its keypoints: SAM as in Section IV-A, or a fallback that needs no weights.

Both look at a crop around one hand: SAM's masks have cells of 1/256 of what it is shown, which on a whole photograph
are the checkerboard edges of Fig. 3. Both end with the paper's dilation of 5 x 5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from h2d.annotators.grabcut import cut_hand
from h2d.annotators.hand_masks import Segmentation, hands_of, join, judge, mend, window
from h2d.annotators.hand_regions import hand_length
from h2d.annotators.pose import quiet_stderr
from h2d.errors import DataError, SetupError
from h2d.skeleton import BODY_NAMES

SAM_CROP = 2.5
"""Side of SAM's crop over the longer side of the hand's keypoint box."""
SAM_MIN_IOU = 0.7
SAM_MODELS = ("vit_h", "vit_l", "vit_b")


class Segmenter(Protocol):
    """What finds the hands. ``made_by`` is its name in a sample's metadata."""

    made_by: str

    def segment(self, image: np.ndarray, pose: np.ndarray) -> Segmentation:
        """Masks of every hand of ``pose`` (133, 3) in uint8 ``image`` (H, W, 3); DataError if one is not credible."""


class PersonSegmenter:
    """MediaPipe's selfie segmentation, whose weights are in its wheel. Built when first used."""

    def __init__(self) -> None:
        self._graph: Any = None

    def probability(self, image: np.ndarray) -> np.ndarray:
        """float32 ``(H, W)`` in [0, 1]: how surely each pixel of ``(H, W, 3)`` shows a person."""
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

    Args:
        checkpoint: an official file such as ``sam_vit_h_4b8939.pth``; read as tensors only.
        model: ``vit_h``, ``vit_l``, ``vit_b``, or ``auto`` to tell from the file's name.
        device: ``auto`` takes CUDA when there is one.

    Raises:
        SetupError: the checkpoint is missing, damaged or of another architecture.
    """

    def __init__(self, checkpoint: Path, model: str = "auto", device: str = "auto") -> None:
        import torch
        from segment_anything import SamPredictor

        self.model = sam_model(checkpoint) if model == "auto" else model
        sam = _load_sam(checkpoint, self.model)
        sam.to(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.made_by = f"sam-{self.model}"
        self._predictor = SamPredictor(sam.eval())
        self._person = PersonSegmenter()

    def segment(self, image: np.ndarray, pose: np.ndarray) -> Segmentation:
        """See ``Segmenter``."""
        hands = hands_of(pose)
        masks, estimates = {}, {}
        for side, points in hands.items():
            mask, estimates[side] = self._segment_hand(image, points, negatives(side, pose, hands))
            masks[side] = mend(mask, points)
        joined = join(masks, pose)
        scores = {side: score | {"iou": estimates[side]} for side, score in judge(joined, pose).items()}
        unsure = [f"{side} hand, {score['iou']:.2f}" for side, score in scores.items() if score["iou"] < SAM_MIN_IOU]
        if unsure:
            raise DataError(f"SAM is not sure of its mask: {', '.join(unsure)}")
        return Segmentation(joined, _as_mask(self._person.probability(image)), scores)

    def _segment_hand(self, image: np.ndarray, points: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, float]:
        """Boolean ``(H, W)`` and SAM's estimate of its IoU, from points on the hand and points beside it."""
        place = window(points, image.shape[:2], SAM_CROP)
        corner = np.array([place[1].start, place[0].start])
        crop = np.ascontiguousarray(image[place])
        inside, outside = points - corner, outside - corner
        outside = outside[(outside >= 0).all(axis=1) & (outside < crop.shape[1::-1]).all(axis=1)]
        self._predictor.set_image(crop)
        masks, estimates, _ = self._predictor.predict(
            point_coords=np.concatenate([inside, outside]),
            point_labels=np.r_[np.ones(len(inside), int), np.zeros(len(outside), int)],
            box=_box(inside, crop.shape[:2]),
            multimask_output=False,
        )
        mask = np.zeros(image.shape[:2], bool)
        mask[place] = masks[0]
        return mask, float(estimates[0])


def sam_model(checkpoint: Path) -> str:
    """Architecture named in a checkpoint's file name.

    Raises:
        SetupError: it names none.
    """
    for model in SAM_MODELS:
        if model in checkpoint.name:
            return model
    raise SetupError(f"cannot tell SAM's architecture from the name of {checkpoint}", "add sam_model=vit_h|vit_l|vit_b")


def negatives(side: str, pose: np.ndarray, hands: dict[str, np.ndarray]) -> np.ndarray:
    """Points ``(N, 2)`` that are not on a hand: joints of the other hand away from it, and one on its own forearm.

    Where two hands overlap no point of the other is used, because it may well lie on this one.
    """
    points = hands[side]
    length = hand_length(points)
    candidates = [_forearm_point(side, pose, points, length)]
    other = hands.get("left" if side == "right" else "right")
    if other is not None:
        gaps = np.linalg.norm(other[:, None] - points[None], axis=2).min(axis=1)
        low, high = points.min(axis=0), points.max(axis=0)
        overlapping = ((other >= low) & (other <= high)).all(axis=1)
        candidates += list(other[(gaps > 0.15 * length) & ~overlapping])
    return np.array(candidates)


def _forearm_point(side: str, pose: np.ndarray, points: np.ndarray, length: float) -> np.ndarray:
    """A point on the forearm: 40 % of the way to the elbow, or straight on behind the wrist when that is not seen."""
    elbow = pose[BODY_NAMES.index(f"{side}_elbow")]
    if elbow[2] > 0 and np.linalg.norm(elbow[:2] - points[0]) > length:
        return points[0] + 0.4 * (elbow[:2] - points[0])
    axis = points[0] - points[[5, 9, 13, 17]].mean(axis=0)
    return points[0] + 0.8 * length * axis / max(float(np.linalg.norm(axis)), 1e-6)


def _box(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """x0, y0, x1, y1 around the points with a margin of 15 %, within the crop."""
    margin = 0.15 * np.ptp(points, axis=0).max()
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    return np.r_[np.maximum(low, 0), np.minimum(high, (shape[1] - 1, shape[0] - 1))]


def _load_sam(checkpoint: Path, model: str) -> Any:
    import torch
    from segment_anything import sam_model_registry

    if not checkpoint.is_file():
        raise SetupError(f"sam_checkpoint={checkpoint} does not exist", "masks=grabcut needs no weights")
    sam = sam_model_registry[model]()
    try:
        sam.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SetupError(f"{checkpoint} is not a checkpoint of SAM {model}: {reason}", "check sam_model=") from error
    return sam


def _as_mask(probability: np.ndarray) -> np.ndarray:
    return np.where(probability > 0.5, 255, 0).astype(np.uint8)

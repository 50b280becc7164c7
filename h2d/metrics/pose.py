"""Distance-based average precision, joint position error and detection rate of poses (Section IV-C).

Every metric compares *found* poses, detected in generated images, with the *truth*, the poses asked for. Both are
``(B, 133, 3)`` in pixels of the same image; rows with ``v = 0`` were not found, or are not part of the truth.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from h2d.skeleton import HAND_SLICES, NUM_KEYPOINTS, SIGMAS

EVERYTHING = slice(0, NUM_KEYPOINTS)
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


class KeypointAP(Metric):
    """DAP and DAR: COCO's keypoint AP and AR with whole-body sigmas, one person in each image.

    Images whose truth has no labelled point of the set are left out on both sides. An image without any found point
    has no detection. Equal scores are ranked by image id; DAR does not depend on the scores at all.

    Args:
        points: the keypoints that count.
        area: what makes the same distance larger or smaller: the box of all labelled keypoints of the person, or
            the box of those in ``points`` alone (for the hands the stricter choice). Width times height in pixels.
        factor: of the area; xtcocotools takes 0.53 where there is no segment of the person.
        unfound: where none of ``points`` was found but others were, there is no detection ("miss"), or one whose
            points lie at (0, 0) ("wrong").
    """

    full_state_update = False
    higher_is_better = True
    rows: list[Tensor]

    def __init__(
        self,
        points: slice = EVERYTHING,
        area: Literal["person", "own"] = "person",
        factor: float = 1.0,
        unfound: Literal["miss", "wrong"] = "miss",
    ) -> None:
        super().__init__()
        self.points, self.area, self.factor, self.unfound = points, area, factor, unfound
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, found: Tensor, scores: Tensor, truth: Tensor, ids: Tensor) -> None:
        """Add images.

        Args:
            found: ``(B, 133, 3)``; B may be 0.
            scores: ``(B,)`` confidence of the found poses.
            truth: ``(B, 133, 3)``.
            ids: ``(B,)`` numbers that are unique over all images and ranks.
        """
        poses, targets = _float64(found), _float64(truth)
        similarity = [
            object_similarity(pose, target, self.points, self.area, self.factor, self.unfound)
            for pose, target in zip(poses, targets, strict=True)
        ]
        rows = np.array(similarity).reshape(-1, 2)
        columns = [_float64(ids).reshape(-1, 1), _float64(scores).reshape(-1, 1), rows]
        self.rows.append(torch.from_numpy(np.concatenate(columns, axis=1)).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """``ap``, ``ar``, ``ap50`` and ``ap75``, each NaN without any image that counts."""
        rows = _float64(dim_zero_cat(self.rows)).reshape(-1, 4)
        rows = rows[rows[:, 2] > 0, :]
        detected = rows[rows[:, 3] >= 0]
        ranked = detected[np.lexsort((detected[:, 0], -detected[:, 1])), 3]
        precision = [average_precision(ranked >= threshold, len(rows)) for threshold in THRESHOLDS]
        recall = [(ranked >= threshold).sum() / max(len(rows), 1) for threshold in THRESHOLDS]
        values = {"ap": np.mean(precision), "ar": np.mean(recall), "ap50": precision[0], "ap75": precision[5]}
        return {
            name: torch.tensor(value if len(rows) else float("nan"), dtype=torch.float64)
            for name, value in values.items()
        }


def object_similarity(
    found: np.ndarray,
    truth: np.ndarray,
    points: slice,
    area: Literal["person", "own"],
    factor: float = 1.0,
    unfound: Literal["miss", "wrong"] = "miss",
) -> tuple[int, float]:
    """Number of keypoints that count, and COCO's object keypoint similarity in [0, 1] (-1 where nobody was found)."""
    labelled = truth[points, 2] > 0
    seen = found[points] if unfound == "miss" else found
    if not labelled.any() or not (seen[:, 2] > 0).any():
        return int(labelled.sum()), -1.0
    box = truth[points] if area == "own" else truth
    width, height = np.ptp(box[box[:, 2] > 0, :2], axis=0)
    square = ((found[points, :2] - truth[points, :2]) ** 2).sum(axis=1)[labelled]
    variance = (2 * SIGMAS[points][labelled]) ** 2 * 2 * (factor * width * height + np.spacing(1))
    return int(labelled.sum()), float(np.exp(-square / variance).mean())


def average_precision(hits: np.ndarray, total: int) -> float:
    """COCO's interpolated average precision.

    Args:
        hits: bool ``(N,)``, right or wrong, the most confident detection first.
        total: number of persons to find.
    """
    if not len(hits):
        return 0.0
    right = np.cumsum(hits)
    precision = right / (np.arange(len(hits)) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / max(total, 1), RECALLS, side="left")
    return float(np.append(envelope, 0.0)[places].mean())


class MPJPE(Metric):
    """Mean distance of joints in coordinates x / width, y / height; mean over joints, then over images.

    Args:
        points: the keypoints that count, where the truth has them.
        missing: joints that were not found are taken to be at (0, 0) (``"zero"``, comparable with the paper), or do
            not count (``"skip"``).
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, points: slice = EVERYTHING, missing: Literal["zero", "skip"] = "zero") -> None:
        super().__init__()
        self.points, self.missing = points, missing
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, found: Tensor, truth: Tensor, size: tuple[int, int]) -> None:
        """Add images of ``size`` (width, height); poses ``(B, 133, 3)``."""
        found, truth = found[:, self.points].double(), truth[:, self.points].double()
        seen, labelled = found[..., 2] > 0, truth[..., 2] > 0
        place = found[..., :2] * seen[..., None]
        distance = ((place - truth[..., :2]) / found.new_tensor(size)).norm(dim=-1)
        counted = labelled & seen if self.missing == "skip" else labelled
        joints = counted.sum(dim=-1)
        means = (distance * counted).sum(dim=-1)[joints > 0] / joints[joints > 0]
        self.total += means.sum().to(self.total)
        self.count += len(means)

    def compute(self) -> Tensor:
        """The mean, NaN without any joint that counts."""
        return self.total / self.count


class DetectionRate(Metric):
    """Share of the persons, or of the hands, of the truth of which at least one keypoint was found.

    Args:
        of: ``"person"`` counts images, ``"hands"`` counts right and left hands.
    """

    full_state_update = False
    higher_is_better = True
    found: Tensor
    count: Tensor

    def __init__(self, of: Literal["person", "hands"] = "person") -> None:
        super().__init__()
        self.parts = [EVERYTHING] if of == "person" else list(HAND_SLICES.values())
        self.add_state("found", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Add poses ``(B, 133, 3)``."""
        for part in self.parts:
            present = (truth[:, part, 2] > 0).any(dim=1)
            self.found += ((found[:, part, 2] > 0).any(dim=1) & present).sum()
            self.count += present.sum()

    def compute(self) -> Tensor:
        """The share in [0, 1], NaN without any person or hand in the truth."""
        return self.found.double() / self.count


def _float64(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()

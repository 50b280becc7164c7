"""What an evaluation has measured: first the share of each rank, then the numbers of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from h2d.detection import Detector
from h2d.grids import labelled_grid
from h2d.metrics.suite import Suite
from h2d.pictures import Picture


@dataclass(frozen=True)
class Evaluation:
    """Numbers by name (None with a reason in ``skipped``), how they were measured, and the first pictures."""

    metrics: dict[str, float | int | None]
    skipped: dict[str, str]
    protocol: dict[str, Any]
    pictures: list[Picture]

    def grid(self, cell: int = 256) -> np.ndarray | None:
        """The pictures as a table, uint8 ``(H, W, 3)``; None without any."""
        if not self.pictures:
            return None
        rows = [list(picture.panels.values()) for picture in self.pictures]
        return labelled_grid(rows, list(self.pictures[0].panels), cell)


@dataclass(frozen=True)
class Measurement:
    """The share of one rank. Making it exchanges nothing, so that a rank may fail without the others waiting for it.

    Args:
        suite: what was measured; None where there are pictures only.
        protocol: how.
        pictures: the first ones of this rank.
        masks: number of hand masks that stage I made.
        empty_masks: how many of them show no hand.
        reasons: why a number is not measured, by name.
        otherwise: why any other number is not measured.
    """

    suite: Suite | None
    protocol: dict[str, Any]
    pictures: list[Picture]
    masks: int = 0
    empty_masks: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    otherwise: str = ""

    def gather(self) -> None:
        """Fetch the sums of the other ranks, which all have to call this; nothing is exchanged afterwards."""
        if self.suite is None:
            return
        for metric in self.suite.metrics:
            if metric.update_called:
                metric.sync()
            metric._to_sync = False  # torchmetrics would exchange, and wait for a rank that failed, in compute()

    def compute(self) -> Evaluation:
        """The numbers; over all ranks after :meth:`gather`, otherwise over those who call this together."""
        if self.suite is None:
            return Evaluation({}, {}, self.protocol, self.pictures)
        metrics = self.suite.compute()
        reasons = self.reasons | self.suite.reasons
        skipped = {name: reasons.get(name, self.otherwise) for name, value in metrics.items() if value is None}
        return Evaluation(metrics, skipped, self.protocol | {"images": self.suite.facts}, self.pictures)


def measure_poses(
    suite: Suite, pictures: list[Picture], detector: Detector, ground_truth: str, size: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Add generated pictures of ``size`` pixels to the metrics of poses.

    Args:
        suite: takes them.
        pictures: may be empty.
        detector: finds poses in images.
        ground_truth: "annotation" compares with the samples' poses, "redetected" with those found in the photographs.
        size: side of the pictures.

    Returns:
        Poses ``(133, 3)`` found in the pictures, and those they are compared with.
    """
    found = detector([picture.image for picture in pictures])
    truth = [picture.sample.pose for picture in pictures]
    if ground_truth == "redetected":
        truth = [result.pose for result in detector([picture.sample.image for picture in pictures])]
    poses, scores = [result.pose for result in found], [result.score for result in found]
    suite.add_poses(poses, scores, truth, [picture.index for picture in pictures], size)
    return poses, truth


def measure_images(suite: Suite, pictures: list[Picture], found: list[np.ndarray], truth: list[np.ndarray]) -> None:
    """Add generated pictures to the metrics of images, with the poses found in them and in the photographs."""
    if suite.images is None:
        return
    ids = [picture.index for picture in pictures]
    made, real = [picture.image for picture in pictures], [picture.sample.image for picture in pictures]
    suite.images.add(ids, made, real, [picture.sample.caption for picture in pictures])
    suite.images.add_foregrounds(ids, made, found, [picture.sample.pose for picture in pictures], real, truth)

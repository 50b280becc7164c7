"""What an evaluation has measured: first the share of each rank, then the numbers of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from h2d.evaluation.rows import Row
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
        otherwise: why a number is not measured, where the suite does not know it.
    """

    suite: Suite | None
    protocol: dict[str, Any]
    pictures: list[Picture]
    masks: int = 0
    empty_masks: int = 0
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
        skipped = {
            name: self.suite.reasons.get(name, self.otherwise) for name, value in metrics.items() if value is None
        }
        return Evaluation(metrics, skipped, self.protocol | {"images": self.suite.facts}, self.pictures)


def add_rows(suite: Suite, rows: Sequence[Row], size: int, detected: bool) -> None:
    """Add rows to the metrics of poses and masks.

    Args:
        suite: takes them.
        rows: may be none.
        size: side of the pictures in pixels.
        detected: whether poses were looked for.
    """
    suite.add_images(len(rows))
    suite.add_masks(torch.tensor([iou for row in rows for iou in row.mask_ious], dtype=torch.float64))
    if detected:
        found = [row.found for row in rows if row.found is not None]
        scores, truth, ids = ([getattr(row, name) for row in rows] for name in ("score", "truth", "number"))
        suite.add_poses(found, scores, truth, ids, size)

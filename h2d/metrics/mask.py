"""How well stage I's predicted mask fits the hand (Section III-B)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class MaskIoU(Metric):
    """Mean intersection over union of masks; two empty masks agree fully."""

    full_state_update = False
    higher_is_better = True
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add masks ``(B, 1, S, S)`` in [0, 1], both cut at 0.5."""
        predicted, truth = (predicted > 0.5).flatten(1), (truth > 0.5).flatten(1)
        union = (predicted | truth).sum(dim=1).double()
        overlap = (predicted & truth).sum(dim=1).double()
        self.total += torch.where(union > 0, overlap / union.clamp(min=1), 1.0).sum().to(self.total)
        self.count += len(union)

    def compute(self) -> Tensor:
        """The mean in [0, 1], NaN without any mask."""
        return self.total / self.count

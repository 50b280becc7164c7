"""How well stage I's predicted mask fits the hand (Section III-B)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


def mask_ious(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union, float64 ``(B,)``, of masks ``(B, 1, S, S)`` in [0, 1], both cut at 0.5.

    Two empty masks agree fully.
    """
    predicted, truth = (predicted > 0.5).flatten(1), (truth > 0.5).flatten(1)
    union = (predicted | truth).sum(dim=1).double()
    overlap = (predicted & truth).sum(dim=1).double()
    return torch.where(union > 0, overlap / union.clamp(min=1), 1.0)


class MaskIoU(Metric):
    """Mean of the overlaps of masks."""

    full_state_update = False
    higher_is_better = True
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, ious: Tensor) -> None:
        """Add overlaps ``(B,)``, see :func:`mask_ious`; B may be 0."""
        self.total += ious.double().sum().to(self.total)
        self.count += len(ious)

    def compute(self) -> Tensor:
        """The mean in [0, 1], NaN without any mask."""
        return self.total / self.count

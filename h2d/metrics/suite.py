"""All numbers of an evaluation together, under the names that ``metrics.json`` uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, SumMetric

from h2d.experiment import MetricsConfig
from h2d.metrics.border import BorderContrast
from h2d.metrics.image_suite import ImageNetworks, ImageSuite
from h2d.metrics.mask import MaskIoU
from h2d.metrics.pose import MPJPE, DetectionRate, KeypointAP
from h2d.skeleton import HANDS

IMAGE_KEYS = ("fid", "kid", "kid_x1000", "fid_fg", "kid_fg", "clipsim")
MAIN_KEYS = ("n", "dap", "dap_hands", "mpjpe", "mpjpe_hands", "detection_rate", "mask_iou", *IMAGE_KEYS)
"""The numbers of Table I and the mask's, in the order of the report. They are all in every report, null or not."""


class Suite:
    """Collects images and turns them into named numbers; all of its metrics reduce over the ranks.

    Args:
        device: where the sums are kept; with several ranks, one that their backend can gather from.
        metrics: what is compared, and how.
        networks: that judge images; None measures no image.

    ``reasons`` (why a number is None, by name) and ``facts`` (how numbers of images were measured) are there after
    :meth:`compute`.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        metrics: MetricsConfig | None = None,
        networks: ImageNetworks | None = None,
    ) -> None:
        settings = metrics or MetricsConfig()
        self.seen = SumMetric()
        self.precision = {
            "": KeypointAP(factor=settings.oks_area_factor),
            "_hands": KeypointAP(HANDS, settings.oks_area, settings.oks_area_factor, settings.unfound_hands),
            "_hands_strict": KeypointAP(HANDS, "own", settings.oks_area_factor, settings.unfound_hands),
        }
        self._constant_scores = settings.dap_scores == "constant"
        self.pose: dict[str, MPJPE] = {
            "mpjpe": MPJPE(),
            "mpjpe_hands": MPJPE(HANDS),
            "mpjpe_matched": MPJPE(missing="skip"),
            "mpjpe_hands_matched": MPJPE(HANDS, missing="skip"),
        }
        self.rates = {"detection_rate": DetectionRate(), "detection_rate_hands": DetectionRate("hands")}
        self.masks = MaskIoU()
        self.borders = {"border_contrast": BorderContrast(), "border_contrast_real": BorderContrast()}
        self.images = None if networks is None else ImageSuite(networks, device, settings)
        self.reasons: dict[str, str] = dict.fromkeys(IMAGE_KEYS, "images are judged by `h2d evaluate` only")
        self.facts: dict[str, Any] = {}
        for metric in self.metrics:
            metric.to(device)

    @property
    def metrics(self) -> list[Metric]:
        """All of them, for the reduction."""
        images = [] if self.images is None else self.images.metrics
        poses = (*self.precision.values(), *self.pose.values(), *self.rates.values())
        return [self.seen, self.masks, *self.borders.values(), *poses, *images]

    def add_images(self, count: int) -> None:
        """Count images, whatever is measured on them."""
        self.seen.update(count)

    def add_poses(
        self,
        found: Sequence[np.ndarray],
        scores: Sequence[float],
        truth: Sequence[np.ndarray],
        ids: Sequence[int],
        size: int,
    ) -> None:
        """Add found and asked-for poses ``(133, 3)`` of square images of ``size`` pixels; the lists may be empty."""
        poses, targets = _stacked(found), _stacked(truth)
        sure = torch.ones(len(poses)) if self._constant_scores else torch.tensor(scores)
        for precision in self.precision.values():
            precision.update(poses, sure, targets, torch.tensor(ids))
        for error in self.pose.values():
            error.update(poses, targets, (size, size))
        for rate in self.rates.values():
            rate.update(poses, targets)

    def add_masks(self, ious: Tensor) -> None:
        """Add overlaps ``(B,)`` of stage I's masks with what they should be."""
        self.masks.update(ious)

    def add_borders(self, made: list[np.ndarray], real: list[np.ndarray], hands: list[np.ndarray]) -> None:
        """Add generated and real images, uint8 ``(S, S, 3)``, with the labels of the real ones' hands ``(S, S)``."""
        self.borders["border_contrast"].add(made, hands)
        self.borders["border_contrast_real"].add(real, hands)

    def compute(self) -> dict[str, float | int | None]:
        """Every number by name, :data:`MAIN_KEYS` first; what was not measured is None."""
        values: dict[str, float | int | None] = dict.fromkeys(MAIN_KEYS)
        values["n"] = int(_value(self.seen) or 0)
        for suffix, precision in self.precision.items():
            results = precision.compute() if precision.update_called else {}
            for name in ("ap", "ar"):
                values[f"d{name}{suffix}"] = _finite(results.get(name))
        for name, metric in (self.pose | self.rates | {"mask_iou": self.masks}).items():
            values[name] = _value(metric)
        if self.images is not None:
            numbers, self.reasons, self.facts = self.images.compute()
            values |= numbers
        values |= {name: _value(metric) for name, metric in self.borders.items() if metric.update_called}
        if values["mask_iou"] is None:
            self.reasons["mask_iou"] = "no hand was made with its mask"
        return values


def _value(metric: Metric) -> float | None:
    return _finite(metric.compute()) if metric.update_called else None


def _finite(value: Tensor | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _stacked(poses: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(poses)).double() if len(poses) else torch.zeros(0, 133, 3, dtype=torch.float64)

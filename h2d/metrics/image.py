"""FID and KID between generated and real images (Table I), by torchmetrics.

torchmetrics draws KID's subsets from the global random state, from features in the order in which the ranks happened
to see them. Here all features are put in the order of the images' ids first and the draw has a seed of its own.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from h2d.metrics.features import Features
from h2d.randomness import preserved_rng

SUBSETS, SUBSET_SIZE = 100, 1000
"""KID is the mean over this many random subsets of this size, as torchmetrics has it; fewer images make it smaller."""
_SEED = 0


class Distances(NamedTuple):
    """What was measured.

    Args:
        values: ``fid``, ``kid``, ``kid_x1000`` (the same times 1000, the scale of other papers) and ``kid_std`` (over
            the subsets); empty where there are too few images.
        facts: how: ``features``, ``n_real``, ``n_generated``, ``subsets``, ``subset_size``.
        reason: why there are no values, or "".
    """

    values: dict[str, float]
    facts: dict[str, int | str]
    reason: str


class ImageDistance(Metric):
    """FID and KID of two sets of images, from one run of the feature network for each image.

    Args:
        features: the network behind both numbers.
        subsets: of KID; a single one where it would hold all images of both sets, since all would be the same.
        subset_size: of KID, at most; the smaller set bounds it.
    """

    full_state_update = False
    higher_is_better = False
    real: list[Tensor]
    generated: list[Tensor]

    def __init__(self, features: Features, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE) -> None:
        super().__init__()
        self.features, self.subsets, self.subset_size = features, subsets, subset_size
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("generated", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, ids: Tensor, real: bool) -> None:
        """Add images; a rank without any still has to add none to both sets.

        Args:
            images: uint8 ``(B, 3, H, W)``; B may be 0.
            ids: ``(B,)`` numbers that are unique in their set over all ranks.
            real: whether they are real or generated.

        Raises:
            ValueError: the images are of another type or shape, or not as many as the ids.
        """
        if len(images) != len(ids):
            raise ValueError(f"{len(images)} images have {len(ids)} ids")
        rows = torch.cat([ids.cpu().double().reshape(-1, 1), self.features(images)], dim=1)
        (self.real if real else self.generated).append(rows.to(self.device))

    def compute(self) -> Distances:
        """FID and KID, or why there is none."""
        real, generated = _in_order(self.real), _in_order(self.generated)
        fewest = min(len(real), len(generated))
        size = min(self.subset_size, fewest)
        subsets = 1 if len(real) == len(generated) == size else self.subsets
        facts: dict[str, int | str] = {
            "features": self.features.name,
            "n_real": len(real),
            "n_generated": len(generated),
        }
        if fewest < 2:
            return Distances({}, facts, f"it needs two images of each kind, not {len(real)} and {len(generated)}")
        if not (real.isfinite().all() and generated.isfinite().all()):
            return Distances({}, facts, "the features of some image are not finite")
        kid, spread = _kid(real, generated, subsets, size)
        values = {"fid": _fid(real, generated), "kid": kid, "kid_x1000": 1000 * kid, "kid_std": spread}
        return Distances(values, facts | {"subsets": subsets, "subset_size": size}, "")


class _Given(nn.Module):
    """Hands torchmetrics the features of images in place of the images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _in_order(parts: list[Tensor]) -> Tensor:
    """Features ``(N, D)`` in the order of their ids, whichever rank saw them."""
    if not len(parts):
        return torch.zeros(0, 1)
    rows = dim_zero_cat(parts).cpu()
    return rows[rows[:, 0].argsort(stable=True), 1:]


def _fid(real: Tensor, generated: Tensor) -> float:
    metric = FrechetInceptionDistance(_Given(real.shape[1]), sync_on_compute=False)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return float(metric.compute())


def _kid(real: Tensor, generated: Tensor, subsets: int, size: int) -> tuple[float, float]:
    """Mean and standard deviation over the subsets."""
    with warnings.catch_warnings(), preserved_rng():
        warnings.filterwarnings("ignore", ".*will save all extracted features in buffer.*")
        metric = KernelInceptionDistance(
            _Given(real.shape[1]), subsets=subsets, subset_size=size, sync_on_compute=False
        )
        metric.update(real, real=True)
        metric.update(generated, real=False)
        torch.default_generator.manual_seed(_SEED)  # torch.manual_seed would also seed devices that are not yet in use
        mean, spread = metric.compute()
    return float(mean), float(spread)

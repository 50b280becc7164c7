"""Numbers of the metrics against formulas that share no code with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from h2d.metrics.features import Features
from h2d.metrics.image import ImageDistance
from h2d.metrics.pose import object_similarity
from h2d.skeleton import HANDS, LEFT_HAND, RIGHT_HAND

SHIFTS = (0, 2, 4, 6, 8, 10, 15, 20, 3)
EVERYTHING_OKS = (1, 0.972009, 0.898288, 0.802307, 0.706291, 0.622272, 0.469295, 0.364498, 0.939538)
HANDS_OKS = (1, 0.965524, 0.870392, 0.735869, 0.587647, 0.447355, 0.196304, 0.078350, 0.924427)


def on_a_grid(points: slice) -> np.ndarray:
    pose, i = np.zeros((133, 3)), np.arange(len(range(133)[points]))
    pose[points] = np.stack([100 + 25.0 * (i % 12), 80 + 30.0 * (i // 12), np.full(len(i), 2.0)], 1)
    return pose


def moved(pose: np.ndarray, shift: float) -> np.ndarray:
    return pose + np.array((shift, 0.0, 0.0)) * (pose[:, 2:] > 0)


@pytest.mark.parametrize(
    ("points", "area", "expected"), [(slice(0, 133), 90_750, EVERYTHING_OKS), (HANDS, 24_750, HANDS_OKS)]
)
def test_similarity_of_a_shifted_grid(points: slice, area: float, expected: tuple[float, ...]) -> None:
    truth = on_a_grid(points)
    assert np.prod(np.ptp(truth[points, :2], axis=0)) == area
    for shift, value in zip(SHIFTS, expected, strict=True):
        count, similarity = object_similarity(moved(truth, shift), truth, points, "person")
        assert (count, round(similarity, 6)) == (len(truth[points]), value)


def test_a_hand_that_is_not_labelled_does_not_count() -> None:
    truth, whole = on_a_grid(HANDS), on_a_grid(HANDS)
    truth[RIGHT_HAND, 2] = 0
    truth[0] = (*whole[HANDS, :2].max(axis=0), 2)  # a body keypoint keeps the person's box, and with it the area
    count, similarity = object_similarity(moved(whole, 6), truth, HANDS, "person")
    assert (count, round(similarity, 6)) == (21, 0.735869)
    assert object_similarity(whole * 0, truth, LEFT_HAND, "person") == (21, -1.0)


class Looked(torch.nn.Module):
    """Looks an image's features up in a table, by the value of its first pixel."""

    def __init__(self, *tables: np.ndarray) -> None:
        super().__init__()
        self.table = torch.from_numpy(np.concatenate(tables))
        self.num_features = self.table.shape[1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.table[images[:, 0, 0, 0].long()]


def distances(real: np.ndarray, fake: np.ndarray, **options: int) -> dict[str, float]:
    metric = ImageDistance(Features(Looked(real, fake), "table"), **options)
    pixels = torch.arange(len(real) + len(fake), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    metric.update(pixels[: len(real)], torch.arange(len(real)), real=True)
    metric.update(pixels[len(real) :], torch.arange(len(fake)), real=False)
    return metric.compute().values


def gaussian(seed: int, count: int, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Samples whose own mean and covariance are exactly those."""
    raw = np.random.default_rng(seed).normal(size=(count, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_fid_of_gaussians_along_the_axes() -> None:
    """Squared distance of the means, and of the standard deviations."""
    mean, other = np.array((1.0, 2.0, 3.0)), np.array((2.0, 0.0, 3.0))
    real, fake = gaussian(0, 50, mean, np.diag((1.0, 4.0, 9.0))), gaussian(1, 40, other, np.diag((4.0, 4.0, 25.0)))
    expected = (1 + 4 + 0) + (1 - 2) ** 2 + (2 - 2) ** 2 + (3 - 5) ** 2
    assert distances(real, fake)["fid"] == pytest.approx(expected, rel=1e-9)


def test_fid_of_gaussians_across_the_axes() -> None:
    """For two dimensions the trace of the root of M = S1 S2 is sqrt(tr M + 2 sqrt(det M))."""
    first, second = np.array(((2.0, 1.0), (1.0, 3.0))), np.array(((5.0, -2.0), (-2.0, 1.0)))
    real, fake = gaussian(2, 30, np.zeros(2), first), gaussian(3, 60, np.array((3.0, 4.0)), second)
    # S1 S2 = [[8, -3], [-1, 1]]: trace 9, determinant 5
    expected = 25 + (2 + 3) + (5 + 1) - 2 * np.sqrt(9 + 2 * np.sqrt(5))
    assert distances(real, fake)["fid"] == pytest.approx(expected, rel=1e-9)


def kid_by_hand(real: np.ndarray, fake: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of the cubic kernel (Binkowski et al. 2018), pair by pair."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3)

    def among(rows: np.ndarray) -> float:
        pairs = [kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
        return sum(pairs) / len(pairs)

    between = [kernel(x, y) for x in real for y in fake]
    return among(real) + among(fake) - 2 * sum(between) / len(between)


def test_kid_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(12, 5)), rng.normal(0.7, 1.5, size=(12, 5))
    values = distances(real, fake)
    assert values["kid"] == pytest.approx(kid_by_hand(real, fake), rel=1e-9)
    assert values["kid_x1000"] == pytest.approx(1000 * kid_by_hand(real, fake), rel=1e-9)


def test_kid_of_subsets_is_near_that_of_all() -> None:
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=(60, 4)), rng.normal(1.0, 1.0, size=(50, 4))
    values = distances(real, fake, subsets=400, subset_size=20)
    assert values["kid"] == pytest.approx(kid_by_hand(real, fake), abs=4 * values["kid_std"] / np.sqrt(400))
    assert values["kid_std"] > 0

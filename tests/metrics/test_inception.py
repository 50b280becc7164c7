"""Inception-v3 with its real weights, and FID and KID on top of it, against torch-fidelity's own."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from h2d.metrics.features import INCEPTION_SIZE, Features, Inception
from h2d.metrics.image import Distances, ImageDistance

from .test_image import by_ranks

CONVOLUTIONS = {
    "Conv2d_1a_3x3": (32, 3, 3, 3),
    "Conv2d_2a_3x3": (32, 32, 3, 3),
    "Conv2d_2b_3x3": (64, 32, 3, 3),
    "Conv2d_3b_1x1": (80, 64, 1, 1),
    "Conv2d_4a_3x3": (192, 80, 3, 3),
}
"""torch-fidelity's layers up to the second pooling."""
NORMALISATION = ("weight", "bias", "running_mean", "running_var")
COUNT = 40


def test_weights_have_the_names_and_shapes_of_torch_fidelity() -> None:
    expected: dict[str, tuple[int, ...]] = {}
    for name, shape in CONVOLUTIONS.items():
        expected |= {f"{name}.conv.weight": shape, f"{name}.bn.num_batches_tracked": ()}
        expected |= {f"{name}.bn.{key}": shape[:1] for key in NORMALISATION}
    assert {name: tuple(tensor.shape) for name, tensor in Inception().state_dict().items()} == expected


def fields(seed: int, count: int, cells: int, noise: int) -> torch.Tensor:
    """Smooth random fields of colour, uint8 ``(count, 3, S, S)``, with noise of up to so many grey levels."""
    rng, side = np.random.default_rng(seed), INCEPTION_SIZE
    points = torch.from_numpy(rng.uniform(0, 255 - noise, (count, 3, cells, cells)))
    smooth = functional.interpolate(points, (side, side), mode="bilinear", align_corners=True)
    return (smooth + torch.from_numpy(rng.uniform(0, noise, (count, 1, side, side)))).to(torch.uint8)


class Pictures(torch.utils.data.Dataset[torch.Tensor]):
    """What torch-fidelity takes for a set of images."""

    def __init__(self, images: torch.Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self._images[number]


@pytest.fixture(scope="module")
def real() -> torch.Tensor:
    return fields(0, COUNT, 5, 20)


@pytest.fixture(scope="module")
def fake() -> torch.Tensor:
    return fields(1, COUNT, 9, 60)


@pytest.fixture(scope="module")
def weights() -> Path:
    """The official file or any with its names, which torch-fidelity reads as well."""
    path = os.environ.get("H2D_INCEPTION")
    if not path or find_spec("torch_fidelity") is None:
        pytest.skip("set H2D_INCEPTION to a weights file of Inception-v3, and install torch-fidelity")
    return Path(path)


@pytest.fixture(scope="module")
def features(weights: Path) -> Features:
    network = Inception()
    missing, _ = network.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    assert [name for name in missing if not name.endswith("num_batches_tracked")] == []
    return Features(network, "Inception-v3")


@pytest.fixture(scope="module")
def ours(features: Features, real: torch.Tensor, fake: torch.Tensor) -> Distances:
    metric = ImageDistance(features)
    for images, is_real in ((real, True), (fake, False)):
        metric.update(images, torch.arange(len(images)), is_real)
    return metric.compute()


@pytest.mark.weights
def test_fid_and_kid_are_those_of_torch_fidelity(
    weights: Path, ours: Distances, real: torch.Tensor, fake: torch.Tensor
) -> None:
    from torch_fidelity import calculate_metrics

    theirs = calculate_metrics(
        input1=Pictures(real),
        input2=Pictures(fake),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        fid=True,
        kid=True,
        feature_layer_fid="192",
        feature_layer_kid="192",
        kid_subsets=1,
        kid_subset_size=COUNT,  # all of them, so that nothing is drawn
        batch_size=8,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    assert ours.values["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours.values["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert min(ours.values["fid"], ours.values["kid"]) > 1, "the comparison means something"


@pytest.mark.weights
def test_two_ranks_agree_with_one_process(
    tmp_path: Path, features: Features, ours: Distances, real: torch.Tensor, fake: torch.Tensor
) -> None:
    shares = [[*range(0, COUNT, 2)], [*range(1, COUNT, 2)]]
    for outcome in by_ranks(tmp_path, ImageDistance(features), real, fake, shares):
        assert outcome.values == pytest.approx(ours.values, rel=1e-6)  # each image in a batch of its own
        assert outcome.facts == ours.facts

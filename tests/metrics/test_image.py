from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn import functional

from h2d import weights
from h2d.errors import CheckpointError, SetupError
from h2d.metrics import features as module
from h2d.metrics.features import Features, Inception, load_inception
from h2d.metrics.image import Distances, ImageDistance
from h2d.weights import WeightFile


class Colours(torch.nn.Module):
    """Mean and spread of each channel, as small as a feature network can be."""

    num_features = 6

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.double().flatten(2) / 255
        return torch.cat([pixels.mean(dim=2), pixels.std(dim=2)], dim=1)


def pictures(seed: int, count: int, low: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    tints = rng.integers(low, 200, (count, 3, 1, 1))
    return torch.from_numpy((tints + rng.integers(0, 56, (count, 3, 4, 4))).astype(np.uint8))


REAL, FAKE = pictures(0, 30), pictures(1, 24, low=60)


def distance(real: Any, fake: Any, **options: int) -> ImageDistance:
    metric = ImageDistance(Features(Colours(), "colours"), **options)
    for images, is_real in ((real, True), (fake, False)):
        metric.update(images, torch.arange(len(images)), is_real)
    return metric


def test_what_was_measured_is_said() -> None:
    values, facts, reason = distance(REAL, FAKE).compute()
    assert facts == {"features": "colours", "n_real": 30, "n_generated": 24, "subsets": 100, "subset_size": 24}
    assert values["kid_x1000"] == 1000 * values["kid"]
    assert values["kid_std"] > 0
    assert reason == ""
    all_in_one = distance(REAL[:24], FAKE).compute()
    assert (all_in_one.facts["subsets"], all_in_one.facts["subset_size"]) == (1, 24)
    assert all_in_one.values["kid_std"] == 0
    few = distance(REAL, FAKE, subsets=7, subset_size=5).compute().facts
    assert (few["subsets"], few["subset_size"]) == (7, 5)


def test_the_same_images_have_no_distance_and_others_have() -> None:
    assert distance(REAL, REAL).compute().values["fid"] == pytest.approx(0, abs=1e-9)
    assert distance(REAL, FAKE).compute().values["fid"] > 0.01


@pytest.mark.parametrize(("real", "fake"), [(0, 0), (0, 5), (5, 1), (1, 5)])
def test_too_few_images_have_a_reason_and_no_number(real: int, fake: int) -> None:
    values, facts, reason = distance(REAL[:real], FAKE[:fake]).compute()
    assert values == {}
    assert reason == f"it needs two images of each kind, not {real} and {fake}"
    assert (facts["n_real"], facts["n_generated"]) == (real, fake)


def test_two_images_are_enough_and_never_nan() -> None:
    assert all(np.isfinite(list(distance(REAL[:2], FAKE[:2]).compute().values.values())))


def test_features_that_are_not_finite_have_a_reason() -> None:
    class Broken(Colours):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) / 0

    metric = ImageDistance(Features(Broken(), "broken"))
    metric.update(REAL, torch.arange(30), True)
    metric.update(FAKE, torch.arange(24), False)
    assert (metric.compute().values, "not finite" in metric.compute().reason) == ({}, True)


@pytest.mark.filterwarnings("ignore:.*compute.*before the.*update.*")
def test_a_metric_that_saw_nothing_says_so() -> None:
    assert "two images" in ImageDistance(Features(Colours(), "colours")).compute().reason


def test_the_random_state_makes_no_difference_and_stays() -> None:
    torch.manual_seed(1)
    first = distance(REAL, FAKE, subset_size=5).compute()
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    assert distance(REAL, FAKE, subset_size=5).compute() == first
    assert torch.equal(torch.rand(3), expected)


def test_the_order_of_the_images_makes_no_difference() -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    metric = distance(REAL[:0], FAKE, subset_size=5)
    for part in order.split(7):
        metric.update(REAL[part], part, True)
    assert metric.compute() == distance(REAL, FAKE, subset_size=5).compute()


def test_wrong_images_are_refused() -> None:
    for images in (REAL.float(), REAL[0], REAL[:, :1]):
        with pytest.raises(ValueError, match="uint8"):
            distance(REAL, FAKE).update(images, torch.arange(len(images)), True)
    with pytest.raises(ValueError, match="ids"):
        distance(REAL, FAKE).update(REAL, torch.arange(3), True)


def on_a_rank(
    rank: int, store: Path, metric: ImageDistance, sets: list[torch.Tensor], shares: list[list[int]], queue: Any
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=len(shares))
    for images, real in zip(sets, (True, False), strict=True):
        metric.update(images[:0], torch.arange(0), real)
        for number in shares[rank]:
            metric.update(images[number : number + 1], torch.tensor([number])[: len(images[number:])], real)
    queue.put(tuple(metric.compute()))
    dist.barrier()
    dist.destroy_process_group()


def by_ranks(
    folder: Path, metric: ImageDistance, real: torch.Tensor, fake: torch.Tensor, shares: list[list[int]]
) -> list[Distances]:
    """What each rank says of two sets, when each adds its share of the numbers of both to a metric that is empty."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    ranks = [
        context.Process(
            target=on_a_rank, args=(rank, folder / "store", metric, [real, fake], shares, queue), daemon=True
        )
        for rank in range(len(shares))
    ]
    for rank in ranks:
        rank.start()
    outcomes = [Distances(*queue.get(timeout=180)) for _ in ranks]
    for rank in ranks:
        rank.join(timeout=60)
        assert rank.exitcode == 0
    return outcomes


@pytest.mark.parametrize("shares", [[[*range(0, 30, 2)], [*range(1, 30, 2)]], [[*range(29, -1, -1)], []]])
def test_two_ranks_agree_with_one_process(tmp_path: Path, shares: list[list[int]]) -> None:
    empty = ImageDistance(Features(Colours(), "colours"), subset_size=5)
    assert by_ranks(tmp_path, empty, REAL, FAKE, shares) == [distance(REAL, FAKE, subset_size=5).compute()] * 2


# --- Inception ---------------------------------------------------------------------------------------------------


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a file where the official weights belong, with its size and sum taken for the published ones."""
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path))

    def put(content: Any, genuine: bool = True) -> Path:
        official = next(entry for entry in weights.WEIGHTS if entry.name == "inception")
        assert isinstance(official, WeightFile)
        path = tmp_path / official.file
        torch.save(content, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if genuine else official.sha256
        entries = (replace(official, size=path.stat().st_size, sha256=digest),)
        monkeypatch.setattr(weights, "WEIGHTS", entries)
        monkeypatch.setattr(module, "WEIGHTS", entries)
        return path

    return put


def official_state() -> dict[str, torch.Tensor]:
    """Random weights in the official file's layout: the layers after the second pooling are there, too."""
    torch.manual_seed(0)
    state = {
        name: tensor if tensor.is_floating_point() is False else torch.rand(tensor.shape) + 0.1
        for name, tensor in Inception().state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    return {name: t - 0.6 if "conv" in name else t for name, t in state.items()} | {"fc.weight": torch.rand(3)}


def by_hand(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The layers one by one in float64, from the published list of them (Szegedy et al., Table 1)."""
    x = functional.interpolate(images.double(), (299, 299), mode="bilinear", antialias=True)
    x = x / 128 - 1
    for name, stride, padding, pool in (
        ("Conv2d_1a_3x3", 2, 0, False),
        ("Conv2d_2a_3x3", 1, 0, False),
        ("Conv2d_2b_3x3", 1, 1, True),
        ("Conv2d_3b_1x1", 1, 0, False),
        ("Conv2d_4a_3x3", 1, 0, True),
    ):
        norm = {key: state[f"{name}.bn.{key}"].double() for key in ("weight", "bias", "running_mean", "running_var")}
        x = functional.conv2d(x, state[f"{name}.conv.weight"].double(), stride=stride, padding=padding)
        scale = norm["weight"] / (norm["running_var"] + 0.001).sqrt()
        x = ((x - norm["running_mean"][:, None, None]) * scale[:, None, None] + norm["bias"][:, None, None]).clamp(
            min=0
        )
        x = functional.max_pool2d(x, 3, 2) if pool else x
    assert x.shape[1:] == (192, 35, 35)
    return x.mean(dim=(2, 3))


def test_inception_is_the_published_network(install: Callable[..., Path]) -> None:
    state = official_state()
    path = install(state)
    inception = load_inception()
    assert inception.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 340, 420), dtype=np.uint8))
    expected = by_hand(state, images)
    assert inception(images).shape == (2, 192)
    assert float((inception(images) - expected).abs().max()) < 1e-5 * float(expected.max())
    assert inception(images[:0]).shape == (0, 192)


def test_without_weights_or_with_others_there_is_one_clear_error(
    install: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path / "nothing"))
    with pytest.raises(SetupError, match="does not exist") as absent:
        load_inception()
    assert "--fetch inception" in absent.value.hint
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path))
    install(official_state(), genuine=False)
    with pytest.raises(SetupError, match="SHA-256"):
        load_inception()
    install(["no weights"])
    with pytest.raises(SetupError, match="holds no weights"):
        load_inception()
    state = official_state()
    del state["Conv2d_4a_3x3.bn.bias"]
    install(state)
    with pytest.raises(CheckpointError, match="lacks 1 weights"):
        load_inception()

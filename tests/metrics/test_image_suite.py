from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from h2d.metrics.features import Features
from h2d.metrics.foreground import Cut
from h2d.metrics.image_suite import ImageNetworks, ImageSuite
from h2d.weights import HubModel

NOBODY = np.zeros((133, 3), np.float32)
RNG = np.random.default_rng(0)
MADE, REAL = RNG.integers(0, 256, (2, 6, 8, 8, 3), dtype=np.uint8)
KINDS = ("fid", "kid", "kid_x1000", "kid_std")
FOREGROUND = ("fid_fg", "kid_fg", "kid_fg_x1000", "kid_fg_std")


class Colours(torch.nn.Module):
    num_features = 3

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.double().mean(dim=(2, 3))


class Twins:
    """CLIP in which the picture's first value, in percent, is the cosine."""

    name, sha256 = "twins", "c1"

    def cosines(self, images: torch.Tensor, captions: Sequence[str]) -> tuple[torch.Tensor, int]:
        return images[:, 0, 0, 0].double() / 100, sum(len(caption) > 9 for caption in captions)


class Halves:
    """Keeps the left half of an image, and of a black one nothing."""

    made_by = "halves"

    def __init__(self, name: str = "fg", sha256: str = "") -> None:
        self.name, self.sha256, self.open = name, sha256, True

    def cut(self, images: Sequence[np.ndarray], poses: Sequence[np.ndarray]) -> list[Cut]:
        left = np.arange(8)[:, None] < 4
        return [Cut(image * left) if image.any() else Cut(None, "nobody to cut out: black") for image in images]

    def close(self) -> None:
        self.open = False


def measure(networks: ImageNetworks, made: np.ndarray = MADE, real: np.ndarray = REAL) -> ImageSuite:
    suite, poses = ImageSuite(networks), [NOBODY] * len(made)
    suite.add([], [], [], [])
    suite.add_foregrounds([], [], [], [], [], [])
    suite.add(range(len(made)), list(made), list(real), ["a person waves", "hand", *["hand"] * (len(made) - 2)])
    suite.add_foregrounds(range(len(made)), list(made), poses, poses, list(real), poses)
    return suite


def features() -> Features:
    return Features(Colours(), "colours")


def test_everything_is_measured_and_said() -> None:
    made = MADE.copy()
    made[2] = 0  # nobody can be cut out there
    values, reasons, facts = measure(ImageNetworks(features(), Twins(), Halves()), made).compute()
    assert set(values) == {*KINDS, *FOREGROUND, "clipsim"}
    assert set(reasons) == {"fd_latents"}, "no network was given"
    assert values["clipsim"] == pytest.approx(float(made[:, 0, 0, 0].mean()))
    assert facts["clipsim"] == {"model": "twins", "captions_cut": 1, "sha256": "c1"}
    assert (facts["fid"]["n_real"], facts["fid_fg"]["n_real"]) == (6, 5)
    assert (facts["fid_fg"]["made_by"], facts["fid_fg"]["pairs_without"]) == ("halves", 1)
    five = [0, 1, 3, 4, 5]
    left = np.arange(8)[:, None] < 4
    expected = measure(ImageNetworks(features()), made[five] * left, REAL[five] * left).compute().values
    assert {name: values[other] for name, other in zip(KINDS, FOREGROUND, strict=True)} == pytest.approx(expected)


def test_selfie_segmentation_goes_by_another_name() -> None:
    values, reasons, facts = measure(ImageNetworks(features(), None, Halves("fg_selfie"))).compute()
    assert {name for name in values if "fg" in name} == {name.replace("fg", "fg_selfie") for name in FOREGROUND}
    assert reasons["fid_fg"] == "SAM's weights are not here: fid_fg_selfie is measured instead"
    assert facts["fid_fg_selfie"]["made_by"] == "halves"


def test_the_weights_that_judged_are_named_by_their_checksums() -> None:
    judge = Features(Colours(), "colours", sha256="i9")
    facts = measure(ImageNetworks(judge, Twins(), Halves(sha256="5a"))).compute().facts
    assert {name: fact["sha256"] for name, fact in facts.items()} == {"fid": "i9", "fid_fg": "i9", "clipsim": "c1"}
    assert [name for name, fact in facts.items() if fact.get("made_by_sha256") == "5a"] == ["fid_fg"]
    facts = measure(ImageNetworks(features(), None, Halves())).compute().facts
    assert not [key for fact in facts.values() for key in fact if "sha256" in key], "only where there is such a file"


def test_every_number_that_is_not_there_has_a_reason() -> None:
    empty = ImageSuite(ImageNetworks(reasons={"features": "no such file: fetch it"}))
    values, reasons, _ = empty.compute()
    assert values == {}
    assert set(reasons) == {*KINDS, *FOREGROUND, "clipsim", "fd_latents"}
    assert reasons["fid"] == reasons["kid_fg"] == "no such file: fetch it"
    one = measure(ImageNetworks(features(), Twins(), Halves()), MADE[:2], REAL[:2] * 0).compute()
    assert set(one.reasons) == {*FOREGROUND, "fd_latents"}
    assert one.facts["fid_fg"]["pairs_without"] == 2
    none = ImageSuite(ImageNetworks(features(), Twins(), Halves()))
    none.add([], [], [], [])
    none.add_foregrounds([], [], [], [], [], [])
    assert none.compute().values == {}
    assert set(none.compute().reasons) == {*KINDS, *FOREGROUND, "clipsim", "fd_latents"}


def test_absent_weights_are_reasons_and_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(HubModel, "find", lambda model: None)
    with ImageNetworks.load() as networks:
        assert (networks.features, networks.clip, networks.foreground) == (None, None, None)
        assert "--fetch inception" in networks.reasons["features"]
        assert "--fetch clip" in networks.reasons["clip"]


def test_the_segmenting_process_ends_with_the_context() -> None:
    foreground = Halves()
    with ImageNetworks(features(), None, foreground):
        assert foreground.open
    assert not foreground.open

"""The numbers of Table I that need a network's opinion of the images: FID, KID and CLIPSIM, with what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, SumMetric

from h2d.errors import H2DError
from h2d.experiment import MetricsConfig
from h2d.metrics.clip import Clip, ClipSim, load_clip
from h2d.metrics.features import Features, load_inception
from h2d.metrics.foreground import Foreground, cut_pairs, load_foreground
from h2d.metrics.image import Distances, ImageDistance
from h2d.metrics.latents import load_latent_moments
from h2d.weights import WEIGHTS, weight_file

Network = TypeVar("Network")

WITHOUT_SAM = "SAM's weights are not here: {} is measured instead"


@dataclass
class ImageNetworks:
    """Networks that judge images; None where one is not on this machine. Use it as a context, or close it.

    Args:
        features: behind FID and KID.
        clip: behind CLIPSIM.
        foreground: removes backgrounds for FID and KID of the foreground, which also need ``features``.
        reasons: why one is None, by the names of these arguments.
        latents: behind the Fréchet distance that needs no download, see :mod:`h2d.metrics.latents`.
    """

    features: Features | None = None
    clip: Clip | None = None
    foreground: Foreground | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    latents: Features | None = None

    @classmethod
    def load(cls, device: torch.device | str = "cpu", foreground: str = "auto") -> ImageNetworks:
        """Those whose weights are on this machine; nothing is fetched.

        Args:
            device: where they run.
            foreground: ``metrics.foreground``.
        """
        networks = cls()
        networks.features = networks._try("features", lambda: load_inception(device))
        networks.latents = networks._try("latents", lambda: load_latent_moments(device))
        networks.clip = networks._try("clip", lambda: load_clip(device=device))
        if foreground == "none":
            networks.reasons["foreground"] = "metrics.foreground=none"
        elif networks.features is not None:
            networks.foreground = networks._try("foreground", lambda: load_foreground(str(device), foreground))
        return networks

    @staticmethod
    def absent(foreground: str = "auto") -> list[str]:
        """Names in :data:`h2d.weights.WEIGHTS` of those that are not on this machine.

        Raises:
            SetupError: SAM is asked for, and not on this machine.
        """
        if foreground == "sam":
            weight_file("sam-vit-h")
        wanted = ("inception", "clip", *(["sam-vit-h"] if foreground == "auto" else []))
        return [weights.name for weights in WEIGHTS if weights.name in wanted and weights.find() is None]

    def _try(self, name: str, load: Callable[[], Network]) -> Network | None:
        try:
            return load()
        except H2DError as error:
            self.reasons[name] = f"{error.message}: {error.hint}"
            return None

    def __enter__(self) -> ImageNetworks:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that the networks started."""
        if self.foreground is not None:
            self.foreground.close()


class ImageNumbers(NamedTuple):
    """Numbers by name, why others are missing, and how they were measured.

    ``facts`` names each network and, where its weights are a file, that file's ``sha256``; what cut the foreground out
    is ``made_by``, with its ``made_by_sha256``.
    """

    values: dict[str, float]
    reasons: dict[str, str]
    facts: dict[str, Any]


class ImageSuite:
    """Collects generated images and the photographs of the same persons; all of its metrics reduce over the ranks.

    Args:
        networks: see :class:`ImageNetworks`; what is None is not measured.
        device: where the sums are kept.
        settings: of KID.
    """

    def __init__(
        self, networks: ImageNetworks, device: torch.device | str = "cpu", settings: MetricsConfig | None = None
    ) -> None:
        features, self._foreground, self._reasons = networks.features, networks.foreground, networks.reasons
        kid = settings or MetricsConfig()
        distance = partial(ImageDistance, subsets=kid.kid_subsets, subset_size=kid.kid_subset_size)
        self.whole = None if features is None else distance(features)
        self.cut = None if features is None or self._foreground is None else distance(features)
        self.latents = None if networks.latents is None else ImageDistance(networks.latents, subsets=1)
        self.clip = None if networks.clip is None else ClipSim(networks.clip)
        self.dropped = SumMetric()
        for metric in self.metrics:
            metric.to(device)

    @property
    def wants_images(self) -> bool:
        """Whether there is a network to judge them."""
        return any(metric is not None for metric in (self.whole, self.latents, self.clip))

    @property
    def metrics(self) -> list[Metric]:
        """All of them, for the reduction."""
        maybe = (self.whole, self.cut, self.latents, self.clip)
        return [self.dropped, *(metric for metric in maybe if metric is not None)]

    def add(
        self,
        ids: Sequence[int],
        generated: Sequence[np.ndarray],
        real: Sequence[np.ndarray],
        captions: Sequence[str],
    ) -> None:
        """Add uint8 images ``(S, S, 3)`` of one size; a rank without any has to add none.

        Args:
            ids: numbers that are unique over all images and ranks.
            generated: images.
            real: photographs of the same persons.
            captions: that the images were generated from.
        """
        images, numbers = _stacked(generated), torch.tensor(ids)
        for distance in (self.whole, self.latents):
            if distance is not None:
                distance.update(images, numbers, real=False)
                distance.update(_stacked(real), numbers, real=True)
        if self.clip is not None:
            self.clip.update(images, captions)

    def add_foregrounds(
        self,
        ids: Sequence[int],
        generated: Sequence[np.ndarray],
        found: Sequence[np.ndarray],
        asked: Sequence[np.ndarray],
        real: Sequence[np.ndarray],
        truth: Sequence[np.ndarray],
    ) -> None:
        """Add the same images without background; the poses are those of :func:`h2d.metrics.foreground.cut_pairs`.

        Pairs of which one image shows nobody are left out and counted.
        """
        if self.cut is None or self._foreground is None:
            return
        pairs = cut_pairs(self._foreground, generated, found, asked, real, truth)
        kept = [
            (number, one.image, other.image)
            for number, (one, other) in zip(ids, pairs, strict=True)
            if one.image is not None and other.image is not None
        ]
        self.dropped.update(len(pairs) - len(kept))
        numbers = torch.tensor([number for number, _, _ in kept])
        self.cut.update(_stacked([image for _, image, _ in kept]), numbers, real=False)
        self.cut.update(_stacked([image for _, _, image in kept]), numbers, real=True)

    def compute(self) -> ImageNumbers:
        """``fid``, ``kid``, ``kid_x1000``, ``kid_std``, the same of the foreground, ``fd_latents`` and ``clipsim``."""
        numbers = ImageNumbers({}, {}, {})
        self._add_distances(numbers, "", self.whole, "features")
        suffix = "_fg" if self._foreground is None else f"_{self._foreground.name}"
        self._add_distances(numbers, suffix, self.cut, "features" if self.whole is None else "foreground")
        if suffix != "_fg":
            numbers.reasons.update({name: WITHOUT_SAM.format(f"{name}_selfie") for name in ("fid_fg", "kid_fg")})
        if self.cut is not None and self._foreground is not None:
            facts = {"made_by": self._foreground.made_by, "pairs_without": int(self.dropped.compute())}
            numbers.facts[f"fid{suffix}"] |= facts | _checksum("made_by_sha256", self._foreground.sha256)
        self._add_latents(numbers)
        self._add_clip(numbers)
        return numbers

    def _add_distances(self, numbers: ImageNumbers, suffix: str, metric: ImageDistance | None, needs: str) -> None:
        names = {name: name.replace("kid", f"kid{suffix}").replace("fid", f"fid{suffix}") for name in _DISTANCES}
        if metric is None:
            outcome = Distances({}, {}, self._reasons.get(needs, f"no network for {needs} was given"))
        else:
            outcome = metric.compute()
            numbers.facts[names["fid"]] = outcome.facts | _checksum("sha256", metric.features.sha256)
        numbers.values.update({names[name]: value for name, value in outcome.values.items()})
        if outcome.reason:
            numbers.reasons.update(dict.fromkeys(names.values(), outcome.reason))

    def _add_latents(self, numbers: ImageNumbers) -> None:
        if self.latents is None:
            numbers.reasons["fd_latents"] = self._reasons.get("latents", "no network for latents was given")
            return
        outcome = self.latents.compute()
        numbers.facts["fd_latents"] = {
            key: value for key, value in outcome.facts.items() if not key.startswith("subset")
        } | _checksum("sha256", self.latents.features.sha256)
        if outcome.reason:
            numbers.reasons["fd_latents"] = outcome.reason
        else:
            numbers.values["fd_latents"] = outcome.values["fid"]

    def _add_clip(self, numbers: ImageNumbers) -> None:
        if self.clip is None:
            numbers.reasons["clipsim"] = self._reasons.get("clip", "no CLIP was given")
            return
        results = self.clip.compute()
        facts = {"model": self.clip.clip.name, "captions_cut": int(results["captions_cut"])}
        numbers.facts["clipsim"] = facts | _checksum("sha256", self.clip.clip.sha256)
        if results["clipsim"].isfinite():
            numbers.values["clipsim"] = float(results["clipsim"])
        else:
            numbers.reasons["clipsim"] = "there is no image"


_DISTANCES = ("fid", "kid", "kid_x1000", "kid_std")


def _checksum(key: str, sha256: str) -> dict[str, str]:
    """A fact where it is known."""
    return {key: sha256} if sha256 else {}


def _stacked(images: Sequence[np.ndarray]) -> Tensor:
    """Images ``(S, S, 3)`` as one tensor ``(B, 3, S, S)``."""
    if not len(images):
        return torch.zeros(0, 3, 1, 1, dtype=torch.uint8)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

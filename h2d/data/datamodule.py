"""Batches of the four tasks from a folder of shards."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from h2d.data.augment import Augment
from h2d.data.dataset import Draw, ShardDataset, ShardLoader, Transform
from h2d.data.latents import cached_example, check_latents
from h2d.data.order import TrainingOrder, ValidationOrder
from h2d.data.samples import as_numbers, hand_bytes, outpaint_bytes
from h2d.data.schema import Sample, decode_sample
from h2d.data.shards import read_manifest, read_manifests
from h2d.errors import ConfigError, DataError
from h2d.experiment import Experiment
from h2d.randomness import generators

if TYPE_CHECKING:
    from h2d.networks.frozen import FrozenParts

HAND_CAPTION = "a close-up of a hand, "
"""What the tiny base model's captions of hand crops start with; stage I uses the captions as they are."""


class ShardDataModule(L.LightningDataModule):
    """Training and validation batches of an experiment.

    Training batches go on from the trainer's global step, so a resumed run sees exactly the samples that it would have
    seen without the stop.

    Args:
        experiment: ``task``, ``seed``, ``image_size`` and ``data`` are used.
        factor: down-sampling of the VAE, which gives the heat maps their size.

    Raises:
        DataError: the folder of shards is missing or incomplete.
    """

    def __init__(self, experiment: Experiment, factor: int) -> None:
        super().__init__()
        self.experiment = experiment
        self.folder = experiment.data.shards
        manifest = read_manifests(self.folder)
        self.counts = manifest.counts
        self.example = example_of(experiment, factor)
        self.vae: str | None = None
        if experiment.data.latents is not None:
            cached = read_manifest(experiment.data.latents)
            check_latents(cached, experiment, manifest)
            self.folder, self.vae = experiment.data.latents, cached.settings["vae"]
            self.example = partial(cached_example, variants=cached.settings["variants"], size=experiment.image_size)

    def check_vae(self, parts: FrozenParts) -> None:
        """Make sure that cached latents are those of this VAE.

        Raises:
            ConfigError: they are those of another one.
        """
        if self.vae is not None and (here := parts.vae_digest) != self.vae:
            problem = f"data.latents={self.folder} was made with the VAE {self.vae}, model.base has {here}"
            raise ConfigError(problem, "make the latents again, or name the base model that they were made with")

    def train_dataloader(self) -> DataLoader:
        """Endless, in an order of the seed and the epoch."""
        dataset = ShardDataset(self.folder, "train", self.example, seed=self.experiment.seed)
        order = TrainingOrder(
            len(dataset),
            seed=self.experiment.seed,
            batch_size=self.experiment.micro_batch,
            rank=self._rank,
            world_size=self._world_size,
            position=self._consumed,
        )
        return self._loader(dataset, order)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The first validation samples, each once; no loader when the shards have no validation split.

        Raises:
            DataError: there are fewer samples than ranks, and a rank without any would wait for the others for ever.
        """
        if "val" not in self.counts:
            return []
        dataset = ShardDataset(self.folder, "val", self.example, seed=self.experiment.seed)
        wanted = self.experiment.trainer.val_samples
        total = len(dataset) if wanted == -1 else min(wanted, len(dataset))
        if total < self._world_size:
            problem = f"{total} validation samples are fewer than the {self._world_size} devices"
            raise DataError(f"{self.folder}: {problem}", "prepare more, raise trainer.val_samples or use fewer devices")
        batch_size = self.experiment.micro_batch
        order = ValidationOrder(total, batch_size=batch_size, rank=self._rank, world_size=self._world_size)
        return self._loader(dataset, order)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Make the samples' generators, ``rng``, while their seeds are still on the CPU."""
        seeds = batch.pop("noise_seed").tolist()
        return batch | {"rng": generators(seeds)}

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Make numbers of the bytes, on the device."""
        return as_numbers(batch)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _consumed(self) -> int:
        """Batches that each rank has trained on."""
        return self.trainer.global_step * self.trainer.accumulate_grad_batches if self.trainer else 0

    def _loader(self, dataset: ShardDataset, order: TrainingOrder | ValidationOrder) -> ShardLoader:
        workers, pin = self.experiment.data.num_workers, torch.cuda.is_available()
        return ShardLoader(dataset, batch_sampler=order, num_workers=workers, pin_memory=pin)


def example_of(experiment: Experiment, factor: int) -> Transform:
    """The function that makes the examples of an experiment's task, in bytes (picklable)."""
    size, data = experiment.image_size, experiment.data
    if experiment.task == "outpaint":
        return partial(_example, make=partial(_outpaint, size=size))
    hand = partial(
        hand_bytes,
        size=size,
        margin=data.crop_margin,
        sigma_px=experiment.sigma_px,
        wrist=data.wrist,
        latent_size=size // factor,
    )
    if experiment.task == "hand":
        augment = Augment(data.augment.rgb_shift, data.augment.brightness, data.augment.contrast)
        return partial(_example, make=partial(hand, augment=augment))
    hand = partial(hand, augment=None, caption_prefix=HAND_CAPTION)
    return partial(_example, make=partial(_picture, hand=hand, size=size))


def _example(raw: Mapping[str, Any], draw: Draw | None, *, make: partial) -> dict[str, Any]:
    return make(decode_sample(raw, person=False), rng=draw.rng if draw else None)


def _outpaint(sample: Sample, *, rng: np.random.Generator | None, size: int) -> dict[str, Any]:
    return outpaint_bytes(sample, size=size)


def _picture(sample: Sample, *, rng: np.random.Generator | None, hand: partial, size: int) -> dict[str, Any]:
    """A whole person or one of the hands, as often one as the other: what the tiny base model trains on."""
    rng = rng or np.random.default_rng(zlib.crc32(sample.key.encode()))
    example = hand(sample, rng=rng) if rng.random() < 0.5 else outpaint_bytes(sample, size=size)
    return {name: example[name] for name in ("image", "caption", "key")}

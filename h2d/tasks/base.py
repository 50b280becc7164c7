"""What every task shares: frozen parts outside the checkpoint, noise, captions, AdamW, logging, randomness."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from diffusers import DDPMScheduler
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from h2d.config import Experiment, to_plain
from h2d.errors import H2DError
from h2d.losses import min_snr_weight

TRAIN, VALIDATE = 0, 1
"""First number of the seed of a step's random numbers."""


class DivergedError(H2DError):
    """The loss is no longer a number."""

    exit_code = 1


class Held:
    """Networks that a task uses and does not train.

    A plain object, so that they are in no checkpoint, optimiser or weight average; a copy of the task shares them.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self.networks = [network.requires_grad_(False).eval() for network in networks]

    def __deepcopy__(self, memo: dict[int, Any]) -> Held:
        return self


class DiffusionTask(L.LightningModule, ABC):
    """Base of the tasks.

    A subclass assigns the networks it trains as attributes and writes :meth:`losses`. Random numbers of a step follow
    from the seed, the step and the rank alone, so a resumed run draws the same ones as a run that never stopped.

    Args:
        experiment: every setting; stored in the checkpoint as a plain dict.
        held: networks that the task uses and does not train.

    Attributes:
        made_by: plain values about code and data, stored in the checkpoint for whoever exports it.
    """

    def __init__(self, experiment: Experiment, held: Sequence[nn.Module]) -> None:
        super().__init__()
        self.experiment = experiment
        self.held = Held(*held)
        self.made_by: dict[str, Any] = {}
        self._last_step, self._micro_step = -1, 0
        self.save_hyperparameters(to_plain(experiment))

    @classmethod
    @abstractmethod
    def from_base(cls, experiment: Experiment) -> DiffusionTask:
        """Build the task on the base model that the experiment names."""

    @property
    @abstractmethod
    def factor(self) -> int:
        """Image pixels per latent cell and side."""

    @abstractmethod
    def losses(self, batch: dict[str, Any], rng: torch.Generator) -> dict[str, Tensor]:
        """Scalar losses of a batch; ``loss`` is the one to minimise, the others are parts of it."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Losses of a batch, logged under ``train/``.

        Raises:
            DivergedError: the loss is not finite.
        """
        losses = self.losses(batch, self._training_generator())
        if not torch.isfinite(losses["loss"]):
            raise DivergedError(
                f"the loss became {losses['loss'].item()} at step {self.global_step} "
                f"(samples {', '.join(batch.get('key', ['?'])[:4])}, ...)",
                "resume from the last checkpoint with a lower optim.lr, or look at these samples",
            )
        self._log_losses("train", losses, len(batch["image"]))
        return losses["loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Losses of a batch under ``val/``, with the same noise at every measurement."""
        rng = seeded(self.experiment.seed, VALIDATE, batch_idx, self.global_rank)
        self._log_losses("val", self.losses(batch, rng), len(batch["image"]), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW on everything that is trained, its rate set for every step."""
        settings = self.experiment.optim
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)
        factor = lr_factor(settings.warmup_steps, settings.schedule, self.experiment.trainer.max_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "train/lr"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add ``made_by``."""
        checkpoint["made_by"] = self.made_by

    def noise_weight(self, scheduler: DDPMScheduler, timesteps: Tensor) -> Tensor | None:
        """Weights (B,) of the noise loss by signal-to-noise ratio; None without ``loss.min_snr_gamma``."""
        gamma = self.experiment.loss.min_snr_gamma
        return None if gamma is None else min_snr_weight(scheduler.alphas_cumprod, timesteps, gamma)

    def _training_generator(self) -> torch.Generator:
        """Counts the batches behind one optimiser step, so that each has random numbers of its own."""
        self._micro_step = self._micro_step + 1 if self.global_step == self._last_step else 0
        self._last_step = self.global_step
        return seeded(self.experiment.seed, TRAIN, self.global_step, self._micro_step, self.global_rank)

    def _log_losses(self, prefix: str, losses: dict[str, Tensor], count: int, sync_dist: bool = False) -> None:
        values = {f"{prefix}/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(values, batch_size=count, sync_dist=sync_dist)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DiffusionTask:
        """Let the held networks follow every move to a device or a number type."""
        for network in self.held.networks:
            network._apply(fn)
        return super()._apply(fn, recurse)


def seeded(*numbers: int) -> torch.Generator:
    """A CPU generator that depends on all of ``numbers``; drawing on the CPU gives every device the same numbers."""
    state = np.random.SeedSequence((len(numbers), *numbers)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def lr_factor(warmup_steps: int, schedule: str, max_steps: int) -> Callable[[int], float]:
    """Learning rate at a step, as a share of ``optim.lr``."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if schedule == "constant":
            return 1.0
        done = (step - warmup_steps) / max(1, max_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


def add_noise(latents: Tensor, scheduler: DDPMScheduler, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw noise and time steps, and noise the latents (Eq. 2).

    Args:
        latents: (B, 4, h, w), scaled.

    Returns:
        noisy latents (B, 4, h, w), the noise (B, 4, h, w), the time steps (B,) in [0, T).
    """
    noise = torch.randn(latents.shape, generator=rng).to(latents)
    count = scheduler.config["num_train_timesteps"]
    timesteps = torch.randint(count, (len(latents),), generator=rng).to(latents.device)
    return scheduler.add_noise(latents, noise, timesteps), noise, timesteps


def drop_captions(captions: Sequence[str], probability: float, rng: torch.Generator) -> list[str]:
    """Replace each caption by the empty one with ``probability``."""
    dropped = torch.rand(len(captions), generator=rng) < probability
    return ["" if drop else caption for caption, drop in zip(captions, dropped.tolist(), strict=True)]

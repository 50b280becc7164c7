"""What every task shares: frozen parts outside the checkpoint, noise, captions, AdamW, logging, skipped steps."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from diffusers import DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric

from h2d.config import Experiment, to_plain
from h2d.errors import H2DError
from h2d.losses import Losses, min_snr_weight
from h2d.resume import check_state

Random = Sequence[torch.Generator]
"""A generator on the CPU for each sample of a batch."""


class DivergedError(H2DError):
    """The gradients are no longer numbers."""

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

    A subclass assigns the networks it trains as attributes and writes :meth:`losses`. Each sample brings the seed of
    its random numbers, so a loss depends neither on when training was stopped nor on how a batch is shared out.

    Args:
        experiment: every setting; stored in the checkpoint as a plain dict.
        held: networks that the task uses and does not train.

    Attributes:
        made_by: plain values about code and data, stored in the checkpoint for whoever exports it.
        skipped: optimiser steps that were left out because their gradient was not finite.
    """

    def __init__(self, experiment: Experiment, held: Sequence[nn.Module]) -> None:
        super().__init__()
        self.experiment = experiment
        self.held = Held(*held)
        self.made_by: dict[str, Any] = {}
        self.skipped = self._skipped_in_a_row = 0
        self._validation: dict[str, MeanMetric] = {}
        self.save_hyperparameters(to_plain(experiment))

    @classmethod
    @abstractmethod
    def from_base(cls, experiment: Experiment) -> DiffusionTask:
        """Build the task on the base model that the experiment names."""

    @property
    @abstractmethod
    def factor(self) -> int:
        """Image pixels per latent cell and side."""

    @property
    @abstractmethod
    def networks(self) -> Sequence[nn.Module]:
        """The networks that gradients pass through, whether they are trained or not."""

    @abstractmethod
    def losses(self, batch: dict[str, Any], rng: Random) -> Losses:
        """Losses of a batch, which draws the random numbers of each sample from its generator."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Losses of a batch, logged under ``train/`` in the steps that are logged.

        Returns:
            ``loss``; where there is noise also ``timesteps`` (B,) and ``errors`` (B,), see :class:`Losses`.
        """
        losses = self.losses(batch, batch["rng"])
        if self._is_logged:
            self.log_dict(_named(losses, "train"), batch_size=len(batch["key"]))
        step = {"loss": losses.loss}
        if losses.timesteps is not None and losses.errors is not None:
            step |= {"timesteps": losses.timesteps, "errors": losses.errors.detach()}
        return step

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Losses of a batch under ``val/``, with the same noise and time steps at every measurement."""
        losses = self.losses(batch, batch["rng"])
        for name, value in _named(losses, "val").items():
            mean = self._validation.setdefault(name, MeanMetric().to(self.device))
            mean.update(value, weight=len(batch["key"]))

    def on_validation_epoch_end(self) -> None:
        """Log the means over the samples of all ranks; Lightning's own would be wrong where their shares differ."""
        self.log_dict({name: mean.compute() for name, mean in self._validation.items()})
        self._validation.clear()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient, or leave the step out when it is not finite: on all ranks, since all have the same one.

        Raises:
            DivergedError: that happened too often in a row.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, gradient_clip_val or math.inf)
        if self._is_logged:
            self.log("train/grad_norm", norm)
        if torch.isfinite(norm):
            self._skipped_in_a_row = 0
        else:
            optimizer.zero_grad(set_to_none=True)  # weights without a gradient are left alone by the optimiser
            self._skip()

    @property
    def _is_logged(self) -> bool:
        """Whether anybody sees the numbers of this step. Each costs Lightning a millisecond, seen or not."""
        step, settings = self.global_step + 1, self.experiment.trainer
        return step % settings.log_every_n_steps == 0 or step == settings.max_steps

    def _skip(self) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        self.log("train/skipped", float(self.skipped))
        step = self.global_step
        if self.trainer.is_global_zero:
            text = f"warning: step {step:,} left out, its gradient is not finite ({self.skipped} so far)"
            print(text, file=sys.stderr, flush=True)
        if self._skipped_in_a_row >= self.experiment.trainer.max_skipped:
            raise DivergedError(
                f"the gradients of {self._skipped_in_a_row} steps in a row were not finite, the last is step {step:,}",
                "resume from an earlier checkpoint with a lower optim.lr, or look at the samples",
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW on everything that is trained, its rate set for every step."""
        settings = self.experiment.optim
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay, fused=settings.fused)
        factor = lr_factor(settings.warmup_steps, settings.schedule, self.experiment.trainer.max_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "train/lr"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add ``made_by``."""
        checkpoint["made_by"] = self.made_by

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check every number, and let the settings of this start hold where Lightning would bring back the old ones.

        Raises:
            CheckpointError: a number is missing, of another shape or not finite.
        """
        averaged = self.experiment.optim.ema_decay is not None
        check_state(checkpoint, self, averaged, str(self.trainer.ckpt_path))
        self._keep_rates(checkpoint)
        batches = checkpoint["global_step"] * self.trainer.accumulate_grad_batches  # whole steps, also with another one
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for part in ("current", "total"):
            progress[part] |= dict.fromkeys(("ready", "started", "processed", "completed"), batches)

    def _keep_rates(self, checkpoint: dict[str, Any]) -> None:
        settings = self.experiment.optim
        factor = lr_factor(settings.warmup_steps, settings.schedule, self.experiment.trainer.max_steps)
        rate = settings.lr * factor(checkpoint["global_step"])
        fixed = {"lr": rate, "initial_lr": settings.lr, "weight_decay": settings.weight_decay, "fused": settings.fused}
        for optimizer in checkpoint["optimizer_states"]:
            for group in optimizer["param_groups"]:
                group |= fixed
        for schedule in checkpoint["lr_schedulers"]:
            schedule |= {"base_lrs": [settings.lr], "_last_lr": [rate]}

    def noise_weight(self, scheduler: DDPMScheduler, timesteps: Tensor) -> Tensor | None:
        """Weights (B,) of the noise loss by signal-to-noise ratio; None without ``loss.min_snr_gamma``."""
        gamma = self.experiment.loss.min_snr_gamma
        if gamma is None:
            return None
        return min_snr_weight(scheduler.alphas_cumprod, timesteps, gamma, scheduler.config["prediction_type"])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DiffusionTask:
        """Let the held networks follow every move to a device or a number type."""
        for network in self.held.networks:
            network._apply(fn)
        return super()._apply(fn, recurse)


def _named(losses: Losses, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value.detach() for name, value in ({"loss": losses.loss} | losses.parts).items()}


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


class Noised(NamedTuple):
    """Noisy ``latents``, the ``noise`` in them, and what a base predicts of it, each ``(B, 4, h, w)``.

    The ``target`` is the noise (Eq. 9), or its velocity where the base's scheduler says so; ``timesteps`` are ``(B,)``
    in [0, T).
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    target: Tensor


def add_noise(latents: Tensor, scheduler: DDPMScheduler, rng: Random) -> Noised:
    """Draw noise and time steps, and noise the latents (Eq. 2).

    Args:
        latents: (B, 4, h, w), scaled.
    """
    noise = randn_tensor(latents.shape, generator=list(rng), device=latents.device, dtype=torch.float32).to(latents)
    count = scheduler.config["num_train_timesteps"]
    timesteps = torch.stack([torch.randint(count, (), generator=one) for one in rng]).to(latents.device)
    velocity = scheduler.config["prediction_type"] == "v_prediction"
    target = scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
    return Noised(scheduler.add_noise(latents, noise, timesteps), noise, timesteps, target)


def chances(rng: Random) -> Tensor:
    """A number in [0, 1) for each sample, (B,)."""
    return torch.stack([torch.rand((), generator=one) for one in rng])


def drop_captions(captions: Sequence[str], probability: float, rng: Random) -> list[str]:
    """Replace each caption by the empty one with ``probability``."""
    dropped = chances(rng) < probability
    return ["" if drop else caption for caption, drop in zip(captions, dropped.tolist(), strict=True)]

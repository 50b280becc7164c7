"""What a run does besides stepping: checkpoints, averaging, progress, and a regular look at what it can do so far."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor

from h2d.assembly import load_partner
from h2d.averaging import Averaging, averaged_weights
from h2d.checkpoints import Checkpoints
from h2d.config import Experiment
from h2d.data.schema import Sample
from h2d.data.shards import iter_samples, read_manifests
from h2d.detection import PoseDetector
from h2d.evaluation import Evaluation
from h2d.experiment import SamplingConfig
from h2d.files import write_atomic
from h2d.images import encode_png
from h2d.monitoring import evaluate_task
from h2d.progress import LossTrend, StepProgress
from h2d.runs import run_folder
from h2d.tasks.base import DiffusionTask

FILE_CELL, BOARD_CELL = 256, 128
"""Side of a picture in the run's files, and in TensorBoard, whose event file would otherwise grow by megabytes."""


def build_callbacks(experiment: Experiment) -> list[L.Callback]:
    """The callbacks that the experiment asks for."""
    folder, checkpoint = run_folder(experiment), experiment.checkpoint
    callbacks: list[L.Callback] = [
        LearningRateMonitor(logging_interval="step"),
        StepProgress(experiment.trainer.log_every_n_steps),
        LossTrend(experiment.trainer.log_every_n_steps),
        Checkpoints(folder, checkpoint.every_n_steps, checkpoint.keep),
    ]
    if experiment.optim.ema_decay is not None:
        callbacks.append(Averaging(experiment.optim.ema_decay))
    if experiment.task in ("hand", "outpaint"):
        callbacks.append(TwoStageEvaluation(experiment))
    return callbacks


class TwoStageEvaluation(L.Callback):
    """Samples the same validation poses every so many steps and at the end: numbers and pictures under ``eval/``.

    A one-sample pass before the first step finds what is broken at once. Later failures are reported and counted, and
    training goes on; with several ranks they stop it, since the others would wait for the failed one for ever.

    Args:
        experiment: ``evaluation``, ``sampling`` and ``data`` are used.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.failures = 0
        self._samples: list[Sample] = []
        self._partner: DiffusionTask | None = None
        self._last_step = -1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read the samples and the partner, and try everything once on one sample."""
        settings, shards = self.experiment.evaluation, self.experiment.data.shards
        if settings.split not in read_manifests(shards).counts:
            _warn(f"{shards} has no split {settings.split!r}: nothing is evaluated during training")
            return
        stop = None if settings.samples == -1 else settings.samples
        self._samples = list(islice(iter_samples(shards, settings.split), stop))
        if settings.partner is not None:
            self._partner = load_partner(Path(settings.partner), _task(pl_module))
        quick = replace(self.experiment.sampling, num_inference_steps=2, unblended_last_steps=1)
        self._evaluate(trainer, pl_module, self._samples[:1], quick, detect=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember where a resumed run starts."""
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate when the step's turn has come."""
        step, every = trainer.global_step, self.experiment.evaluation.every_n_steps
        if every and step % every == 0 and step not in (self._last_step, trainer.max_steps):
            self._report(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate what training ended with."""
        if trainer.global_step != self._last_step:
            self._report(trainer, pl_module)

    def _report(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step
        if not self._samples:
            return
        try:
            evaluation = self._evaluate(trainer, pl_module, self._samples, self.experiment.sampling, detect=True)
            if trainer.is_global_zero:
                self._log(trainer, evaluation)
        except Exception as error:
            if trainer.world_size > 1:
                raise
            self.failures += 1
            if isinstance(error, torch.cuda.OutOfMemoryError):
                torch.cuda.empty_cache()
            _warn(
                f"evaluation at step {trainer.global_step:,} failed (failure {self.failures}), training goes on: "
                f"{type(error).__name__}: {error}"
            )

    def _evaluate(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        samples: list[Sample],
        sampling: SamplingConfig,
        detect: bool,
    ) -> Evaluation:
        task = _task(pl_module)
        both = self._partner is not None
        with ExitStack() as stack:
            stack.enter_context(averaged_weights(trainer, task))
            stack.enter_context(_evaluating(task))
            stack.enter_context(trainer.precision_plugin.forward_context())
            wanted = detect and both and self.experiment.evaluation.detector == "mediapipe"
            detector = stack.enter_context(PoseDetector()) if wanted else None
            if self._partner is not None:
                self._partner.to(task.device)
            return evaluate_task(
                task,
                self._partner,
                samples,
                sampling=sampling,
                detector=detector,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
            )

    def _log(self, trainer: L.Trainer, evaluation: Evaluation) -> None:
        step = trainer.global_step
        numbers = {f"eval/{name}": value for name, value in evaluation.metrics.items() if value is not None}
        assert trainer.logger is not None
        trainer.logger.log_metrics(numbers, step=step)
        grid, small = evaluation.grid(FILE_CELL), evaluation.grid(BOARD_CELL)
        if grid is None or small is None:
            return
        trainer.logger.experiment.add_image("eval/pictures", small, step, dataformats="HWC")
        write_atomic(run_folder(self.experiment) / "samples" / f"step-{step:07d}.png", encode_png(grid))


def _task(pl_module: L.LightningModule) -> DiffusionTask:
    assert isinstance(pl_module, DiffusionTask)
    return pl_module


@contextmanager
def _evaluating(task: DiffusionTask) -> Iterator[None]:
    """Evaluation mode without gradients, and each network's own mode again afterwards."""
    modes = [(network, network.training) for network in task.modules()]
    task.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for network, training in modes:
            network.training = training


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)

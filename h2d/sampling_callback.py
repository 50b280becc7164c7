"""A regular look at what a run can do so far, which cannot hurt the run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch

from h2d.assembly import load_partner
from h2d.board import add_picture
from h2d.config import Experiment
from h2d.data.schema import Sample
from h2d.data.shards import iter_samples, read_manifests
from h2d.detection import PoseDetector
from h2d.errors import H2DError
from h2d.evaluation.measurements import Evaluation, Measurement
from h2d.experiment import SamplingConfig
from h2d.files import write_atomic
from h2d.images import encode_jpeg
from h2d.monitoring import measure_task
from h2d.randomness import preserved_rng
from h2d.remarks import Remarks
from h2d.runs import run_folder
from h2d.stopping import StoppedError, stop_requested, until_requested
from h2d.tasks.base import DiffusionTask
from h2d.undisturbed import undisturbed

FILE_CELL, BOARD_CELL = 256, 128
"""Side of a picture in the run's files, and in TensorBoard, whose event file would otherwise grow by megabytes."""
FILE_QUALITY = 90
"""Of the JPEG files."""


class OtherRankError(H2DError):
    """Another rank failed, and says why."""

    exit_code = 1


class TwoStageEvaluation(L.Callback):
    """Samples the same validation poses every so many steps and at the end: numbers and pictures under ``eval/``.

    A one-sample pass before the first step finds what is broken at once, and ends the run. Later failures on any rank
    are said and counted (``eval/failures``), and training goes on as if nothing had been sampled: ranks exchange
    nothing while they sample, then whether all of them succeeded, and only if so their numbers.

    Args:
        experiment: ``evaluation``, ``sampling`` and ``data`` are used.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.failures = 0
        self._samples: list[Sample] = []
        self._partner: DiffusionTask | None = None
        self._remarks = Remarks("h2d.pipelines")
        self._last_step = -1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read the samples and the partner, and try everything once on one sample.

        Raises:
            OtherRankError: another rank failed; what fails on this one is raised as it is.
        """
        failure: Exception | None = None
        try:
            self._prepare(trainer, _task(pl_module))
        except Exception as error:
            failure = error
        if trainer.strategy.reduce_boolean_decision(failure is None):
            return
        raise failure or OtherRankError("the first sampling failed on another rank", "see that rank's message")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember where a resumed run starts."""
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate when the step's turn has come."""
        step, every = trainer.global_step, self.experiment.evaluation.every_n_steps
        if every and step % every == 0 and step not in (self._last_step, trainer.max_steps):
            self._report(trainer, _task(pl_module))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate what training ended with."""
        if trainer.global_step != self._last_step:
            self._report(trainer, _task(pl_module))

    def _prepare(self, trainer: L.Trainer, task: DiffusionTask) -> None:
        settings, shards = self.experiment.evaluation, self.experiment.data.shards
        if settings.split not in read_manifests(shards).counts:
            if trainer.is_global_zero:
                _warn(f"{shards} has no split {settings.split!r}: nothing is evaluated during training")
            return
        stop = None if settings.samples == -1 else settings.samples
        self._samples = list(islice(iter_samples(shards, settings.split), stop))
        if settings.partner is not None:
            self._partner = load_partner(Path(settings.partner), task)
        quick = replace(self.experiment.sampling, num_inference_steps=2, unblended_last_steps=1)
        self._measure(trainer, task, self._samples[:1], quick, detect=False)

    def _report(self, trainer: L.Trainer, task: DiffusionTask) -> None:
        self._last_step = trainer.global_step
        if not self._samples:
            return
        with preserved_rng():
            measurement = self._try_to_measure(trainer, task)
            if not trainer.strategy.reduce_boolean_decision(measurement is not None):
                if not stop_requested():
                    self._count_failure(trainer)
            elif measurement is not None:
                measurement.gather()
                masks, empty = _sum(trainer, measurement.masks, measurement.empty_masks)
                if trainer.is_global_zero:
                    self._try_to_log(trainer, measurement)
                    self._remark(trainer.global_step, masks, empty)

    def _try_to_measure(self, trainer: L.Trainer, task: DiffusionTask) -> Measurement | None:
        try:
            return self._measure(trainer, task, until_requested(self._samples), self.experiment.sampling, detect=True)
        except StoppedError:
            if trainer.is_global_zero:
                _warn(f"evaluation at step {trainer.global_step:,} left out: a stop was requested")
        except Exception as error:
            self._say_failed(trainer, error)
        # only here is the traceback gone, and with it what it kept in memory
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return None

    def _try_to_log(self, trainer: L.Trainer, measurement: Measurement) -> None:
        """Compute and show the numbers of all ranks."""
        try:
            self._log(trainer, measurement.compute())
        except Exception as error:
            self._say_failed(trainer, error)
            self._count_failure(trainer)

    def _remark(self, step: int, masks: int, empty: int) -> None:
        """What the pipelines say picture by picture, in a line."""
        if empty:
            _warn(f"evaluation at step {step:,}: {empty} of {masks} hand masks are empty, as is usual early in stage I")
        if news := [line for line in self._remarks.news() if not line.startswith("the mask of")]:
            _warn(f"{len(news)} remarks on the poses of the evaluation, said once; the first: {news[0]}")

    def _say_failed(self, trainer: L.Trainer, error: Exception) -> None:
        where = f" on rank {trainer.global_rank}" if trainer.world_size > 1 else ""
        _warn(
            f"evaluation at step {trainer.global_step:,} failed{where}, training goes on: "
            f"{type(error).__name__}: {error}"
        )

    def _count_failure(self, trainer: L.Trainer) -> None:
        self.failures += 1
        with suppress(Exception):  # it may have been the logging that failed
            assert trainer.logger is not None
            trainer.logger.log_metrics({"eval/failures": self.failures}, step=trainer.global_step - 1)

    def _measure(
        self,
        trainer: L.Trainer,
        task: DiffusionTask,
        samples: Iterable[Sample],
        sampling: SamplingConfig,
        detect: bool,
    ) -> Measurement:
        wanted = detect and self._partner is not None and self.experiment.evaluation.detector == "mediapipe"
        with undisturbed(trainer, task, self._partner), self._remarks.collected(), _detector(wanted) as detector:
            return measure_task(
                task,
                self._partner,
                samples,
                sampling=sampling,
                detector=detector,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
            )

    def _log(self, trainer: L.Trainer, evaluation: Evaluation) -> None:
        assert trainer.logger is not None
        step = trainer.global_step
        numbers = {f"eval/{name}": value for name, value in evaluation.metrics.items() if value is not None}
        trainer.logger.log_metrics(numbers, step=step - 1)
        grid, small = evaluation.grid(FILE_CELL), evaluation.grid(BOARD_CELL)
        if grid is None or small is None:
            return
        add_picture(trainer.logger.experiment, "eval/pictures", small, step - 1)
        write_atomic(run_folder(self.experiment) / "samples" / f"step-{step:07d}.jpg", encode_jpeg(grid, FILE_QUALITY))


def _task(pl_module: L.LightningModule) -> DiffusionTask:
    assert isinstance(pl_module, DiffusionTask)
    return pl_module


def _detector(wanted: bool) -> AbstractContextManager[PoseDetector | None]:
    return PoseDetector() if wanted else nullcontext()


def _sum(trainer: L.Trainer, *counts: int) -> list[int]:
    """Each count over all ranks."""
    own = torch.tensor(counts, device=trainer.strategy.root_device)
    return [int(count) for count in trainer.strategy.reduce(own, reduce_op="sum")]


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)

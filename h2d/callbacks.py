"""What a run does besides stepping, in the order in which it has to happen."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor

from h2d.averaging import Averaging
from h2d.checkpoints import Checkpoints
from h2d.config import Experiment
from h2d.progress import LossTrend, StepProgress
from h2d.run_record import RunRecord
from h2d.runs import run_folder
from h2d.sampling_callback import TwoStageEvaluation
from h2d.stop_on_request import StopOnRequest
from h2d.watching import Watch


def build_callbacks(experiment: Experiment) -> list[L.Callback]:
    """The callbacks that the experiment asks for.

    The average of the weights is a part of a step, so it comes before the clock stops; sampling comes
    after it, and only if nobody asks to stop. Lightning calls checkpoints last, whatever their place.
    """
    folder, checkpoint, every = run_folder(experiment), experiment.checkpoint, experiment.trainer.log_every_n_steps
    callbacks: list[L.Callback] = [LearningRateMonitor(logging_interval="step"), StepProgress(every), LossTrend(every)]
    if experiment.optim.ema_decay is not None:
        callbacks.append(Averaging(experiment.optim.ema_decay))
    checkpoints = Checkpoints(folder, checkpoint.every_n_steps, checkpoint.keep)
    callbacks += [RunRecord(experiment), Watch(experiment), StopOnRequest(checkpoints)]
    if experiment.task in ("hand", "outpaint"):
        callbacks.append(TwoStageEvaluation(experiment))
    return [*callbacks, checkpoints]

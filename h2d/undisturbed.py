"""The networks of a run, lent for sampling and given back as they were, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import lightning as L
import torch
from torch import nn

from h2d.averaging import averaged_weights
from h2d.randomness import preserved_rng
from h2d.tasks.base import DiffusionTask


@contextmanager
def undisturbed(trainer: L.Trainer, task: DiffusionTask, partner: DiffusionTask | None) -> Iterator[None]:
    """Within the block: averaged weights where there are any, evaluation mode, no gradients, the run's precision.

    Restored afterwards, also after an error: weights, the mode of each network, random states, and the place of the
    partner. Compiled networks run as they are written, or images of other sizes would have them compiled again.

    Args:
        trainer: of the run.
        task: in training.
        partner: the other stage, on the task's device within the block and on the CPU afterwards.
    """
    with ExitStack() as stack:
        stack.enter_context(preserved_rng())
        stack.enter_context(_evaluating(task))
        if task.experiment.trainer.compile:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(averaged_weights(trainer, task))
        stack.enter_context(trainer.precision_plugin.forward_context())
        if partner is not None:
            stack.enter_context(_lent(partner, task.device))
        yield


@contextmanager
def _evaluating(task: DiffusionTask) -> Iterator[None]:
    roots: list[nn.Module] = [task, *task.held.networks]
    modes = [(network, network.training) for root in roots for network in root.modules()]
    task.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for network, training in modes:
            network.training = training


@contextmanager
def _lent(partner: DiffusionTask, device: torch.device) -> Iterator[None]:
    try:
        partner.to(device)
        yield
    finally:
        partner.to("cpu")

"""What is measured in every training batch, without waiting for the device."""

from __future__ import annotations

import resource
import sys
import warnings
from contextlib import ExitStack

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from h2d.experiment import MAX_STEPS

BUCKETS = 4
"""Ranges of time steps, of equal length, whose noise errors are kept apart."""
_SPAN = MAX_STEPS // BUCKETS
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": torch.float32}


class NoiseErrors:
    """Sums of the noise errors of samples, by time step; those that are not finite do not count.

    Attributes:
        names: of the buckets, ``t_000_249`` and so on.
    """

    names = tuple(f"t_{start:03d}_{start + _SPAN - 1:03d}" for start in range(0, MAX_STEPS, _SPAN))

    def __init__(self, device: torch.device | str) -> None:
        self._sums = torch.zeros(2, BUCKETS, device=device)

    def add(self, timesteps: Tensor, errors: Tensor) -> None:
        """Add the samples of a batch.

        Args:
            timesteps: ``(B,)`` in [0, 1000).
            errors: ``(B,)``.
        """
        finite = errors.isfinite()
        values = torch.stack([torch.where(finite, errors, 0), finite]).to(self._sums)
        self._sums.index_add_(1, timesteps.to(self._sums.device) // _SPAN, values)

    def take(self) -> Tensor:
        """Sums and counts ``(2, BUCKETS)``, which start anew."""
        taken, self._sums = self._sums, torch.zeros_like(self._sums)
        return taken


class FlopMeter:
    """Counts the floating-point operations of one batch, and knows how many a device can run in a second.

    Counted are the matrix products, convolutions and attentions that really run: also those of frozen networks, and
    what gradient checkpointing computes twice.

    Args:
        device: that trains.
        precision: of the trainer.
        compiled: whether networks are compiled; they are not for this one batch, whose operations could not be seen.

    Attributes:
        most: operations in a second by the data sheet; None where that is not known, and always on a CPU.
        counted: operations of the batch; None before.
    """

    def __init__(self, device: torch.device, precision: str, compiled: bool) -> None:
        self.most = _most_flops(device, precision)
        self.counted: int | None = None
        self._compiled = compiled
        self._counting = ExitStack()
        self._counter: FlopCounterMode | None = None

    def start(self) -> None:
        """Begin to count, unless it is done or would serve nothing."""
        if self.most is None or self.counted is not None:
            return
        if self._compiled:
            self._counting.enter_context(torch.compiler.set_stance("force_eager"))
        self._counter = FlopCounterMode(display=False, skip_unsupported=True)
        self._counting.enter_context(self._counter)

    def stop(self) -> None:
        """End what :meth:`start` began."""
        self._counting.close()
        if self._counter is not None:
            self.counted, self._counter = self._counter.get_total_flops(), None


def _most_flops(device: torch.device, precision: str) -> int | None:
    if device.type != "cuda":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a device that it does not know
        return get_available_flops(device, _DTYPES[precision])


def take_peak_memory(device: torch.device) -> float:
    """Bytes that the device's memory held at most since the last call.

    Without CUDA it is the memory of this process, and since its start.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

"""Where the large annotators run, and what happens when a batch is too large for the place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from h2d.errors import SetupError

if TYPE_CHECKING:
    import torch

Input = TypeVar("Input")
Output = TypeVar("Output")


def find_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` takes CUDA when there is one.

    Raises:
        SetupError: there is no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SetupError(f"device={name} names no device", "use cpu, cuda, cuda:1, ...") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SetupError(f"device={name} is not there", "`h2d doctor` lists the devices of this machine")
    return device


def number_format(device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA; float32 on a processor, where half precision is slower."""
    import torch

    return torch.bfloat16 if device.type == "cuda" else torch.float32


class Batches:
    """Works in batches that are halved for good when the device has not memory enough for them.

    Args:
        size: images in a batch at first.
        hint: what to do when not even one image fits.
    """

    def __init__(self, size: int, hint: str) -> None:
        self.size = size
        self._hint = hint

    def run(self, work: Callable[[Sequence[Input]], Sequence[Output]], inputs: Sequence[Input]) -> list[Output]:
        """What ``work`` returns for all inputs, in their order.

        Raises:
            SetupError: not even one image fits, or the device has failed, so that nothing more can be done on it.
        """
        outputs: list[Output] = []
        while len(outputs) < len(inputs):
            batch = inputs[len(outputs) : len(outputs) + self.size]
            done = _if_it_fits(work, batch)
            if done is not None:
                outputs += done
            elif len(batch) == 1:
                raise SetupError("the device has not memory enough for one image", self._hint)
            else:
                self.size = len(batch) // 2
                print(f"out of memory: going on with batches of {self.size}", file=sys.stderr, flush=True)
        return outputs


def _if_it_fits(work: Callable[[Sequence[Input]], Sequence[Output]], batch: Sequence[Input]) -> Sequence[Output] | None:
    """What ``work`` returns, or None when it ran out of memory, which is then free again."""
    import torch

    try:
        return work(batch)
    except torch.OutOfMemoryError:
        pass  # what the failed batch held is only freed after this block
    except RuntimeError as error:
        if "CUDA error" in str(error):
            raise SetupError(f"the device has failed: {str(error).splitlines()[0]}", "start again") from error
        raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None

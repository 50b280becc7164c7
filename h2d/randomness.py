"""Random numbers that belong to one picture, and global ones that stay as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def picture_rng(seed: int, index: int) -> np.random.Generator:
    """NumPy's generator of one picture: it depends on the seed and the picture's index, not on its batch or rank."""
    return np.random.default_rng((seed, index))


def picture_generator(seed: int, index: int) -> torch.Generator:
    """The generator of one picture: it depends on the seed and the picture's index, not on its batch or rank.

    It lives on the CPU, so that every device starts from the same noise.
    """
    state = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator for each seed; on the CPU, so that every device sees the same numbers."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Give back the global random states of Python, NumPy and torch, on all devices, as they were before the block."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

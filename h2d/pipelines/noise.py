"""Randomness of sampling: an image depends on its own generator and on nothing else of the batch."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

Generators: TypeAlias = torch.Generator | list[torch.Generator] | None


def spawn(generator: torch.Generator | None) -> torch.Generator:
    """A new CPU generator, seeded by one draw; None draws from torch's global one."""
    device = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (1,), generator=generator, device=device))
    return torch.Generator().manual_seed(seed)


def spawn_each(generator: Generators, count: int) -> list[torch.Generator]:
    """A generator for each sample; one generator for all seeds them in order, so sample k is alike at any batch size.

    Raises:
        ValueError: for a list of another length.
    """
    if not isinstance(generator, list):
        return [spawn(generator) for _ in range(count)]
    if len(generator) != count:
        raise ValueError(f"generator must be one or a list of {count}, got a list of {len(generator)}")
    return [spawn(one) for one in generator]


def draw_noise(shape: tuple[int, ...], generators: list[torch.Generator], device: torch.device) -> Tensor:
    """Standard normal float32 ``(B, *shape)``, drawn on the CPU so that every device starts from the same."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)

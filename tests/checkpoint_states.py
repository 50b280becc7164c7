"""Do two trainings end with the same bits?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

STATE = ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "global_step", "averaging_state")
"""What a resumed run has to end with to the bit: weights, averages, optimiser, schedule."""


def state_differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Names of what differs between the last checkpoints of two runs."""
    return [name for key in STATE for name in differing(one.get(key), two.get(key), key)]


def differing(one: Any, two: Any, path: str = "") -> list[str]:
    """Names of the values in which two checkpoints differ by a bit."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        keys = one.keys() | two.keys()
        return [name for key in keys for name in differing(one.get(key), two.get(key), f"{path}/{key}")]
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        return [name for i, pair in enumerate(zip(one, two, strict=True)) for name in differing(*pair, f"{path}/{i}")]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if torch.equal(one, two) else [path]
    return [] if one == two else [path]

"""What a device can compute, measured in the same process as what is compared with it."""

from __future__ import annotations

import torch

from h2d.bench.clock import clock_of

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": torch.float32}
_REPEATS = 20


def peak_flops(device: torch.device, precision: str) -> float:
    """Operations a second of a large matrix product in a trainer's precision, the best of some.

    On a CPU it is a second of CPU time, of one core.
    """
    side, dtype = (8192, _DTYPES[precision]) if device.type == "cuda" else (1024, torch.float32)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    now, best = clock_of(device), float("inf")
    for _ in range(_REPEATS):
        start = now()
        left @ right
        best = min(best, now() - start)
    return 2 * side**3 / best

"""Looking up textures for many points at once, and the one noise texture that everything is grained with."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np


def unit_rows(v: np.ndarray) -> np.ndarray:
    """(N, 3) float32 vectors of length one."""
    x, y, z = v.T
    return v / (np.sqrt(x * x + y * y + z * z)[:, None] + np.float32(1e-9))


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear, repeating look-up of (N, 2) texture coordinates; (N,) or (N, C)."""
    n, row = len(uv), 4096
    if n == 0:
        return np.empty((0, *texture.shape[2:]), np.float32)
    # cv2.remap takes at most 32,767 columns, so the points are folded into rows
    padded = np.pad(np.mod(uv, 1), ((0, -n % row), (0, 0)))
    x = (padded[:, 0] * (texture.shape[1] - 1)).astype(np.float32).reshape(-1, row)
    y = (np.mod(1 - padded[:, 1], 1) * (texture.shape[0] - 1)).astype(np.float32).reshape(-1, row)
    out = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out.reshape(-1, *texture.shape[2:])[:n]


@lru_cache(maxsize=1)
def noise_texture(size: int = 1024) -> np.ndarray:
    """(size, size, 2) repeating fractal noise, coarse and fine, mean 0 and standard deviation 1."""
    rng = np.random.default_rng(0)
    coarse = np.zeros((size, size), np.float32)
    for octave, cells in enumerate((8, 16, 32, 64, 128, 256)):
        grid = np.pad(rng.normal(size=(cells, cells)).astype(np.float32), 2, mode="wrap")
        border = 2 * size // cells
        large = cv2.resize(grid, (size + 2 * border, size + 2 * border), interpolation=cv2.INTER_CUBIC)
        coarse += 0.62**octave * large[border : border + size, border : border + size]
    fine = cv2.resize(np.tile(coarse, (3, 3)), (size, size), interpolation=cv2.INTER_AREA)
    both = np.stack([coarse, np.roll(fine, 300, 1)], 2)
    return np.ascontiguousarray((both - both.mean((0, 1))) / both.std((0, 1)))

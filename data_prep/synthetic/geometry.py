"""Small rotation algebra in the mesh's axes: x = the person's left, y = backwards, z = up; metres and degrees."""

from __future__ import annotations

import math
import zlib

import numpy as np

SIDES = ("left", "right")
SIDE_LETTER = {"left": "L", "right": "R"}
OUTWARD = {"left": 1.0, "right": -1.0}
"""Sign of the x axis that points away from the body on each side."""
MIRROR = np.diag([-1.0, 1.0, 1.0])

X, Y, Z = np.eye(3)


def random_stream(seed: int, purpose: str, number: int) -> np.random.Generator:
    """The generator of one purpose of one image (or person); independent of every other stream and of call order."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), number])


def unit(v: np.ndarray) -> np.ndarray:
    """Vectors ``(..., 3)`` scaled to length one."""
    v = np.asarray(v, np.float64)
    return v / (np.linalg.norm(v, axis=-1, keepdims=True) + 1e-12)


def rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """(3, 3) rotation about an axis (Rodrigues)."""
    x, y, z = unit(axis)
    angle = math.radians(degrees)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(3, 3) right-handed frame in columns: ``first``, ``second`` made orthogonal to it, their cross product."""
    u = unit(first)
    n = unit(second - np.dot(second, u) * u)
    return np.stack([u, n, np.cross(u, n)], 1)


def twist_degrees(matrix: np.ndarray, axis: np.ndarray) -> float:
    """Signed angle by which a rotation turns around ``axis`` (swing-twist decomposition)."""
    w = 0.5 * math.sqrt(max(1e-9, 1 + np.trace(matrix)))
    skew = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]) / (4 * w)
    degrees = math.degrees(2 * math.atan2(np.dot(skew, unit(axis)), w))
    return (degrees + 180) % 360 - 180


def mirrored(matrix: np.ndarray) -> np.ndarray:
    """The same rotation on the other side of the body."""
    return MIRROR @ matrix @ MIRROR

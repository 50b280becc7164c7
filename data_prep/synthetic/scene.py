"""The drawn part of the mesh, seen by depth maps, and how much of the sky reaches each of its vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import Body
from .geometry import unit
from .person import Person
from .rasterizer import rasterize

_SKY_RES = 224
_SKY = 14
"""Number of sky directions of the ambient light."""


@dataclass(frozen=True)
class Scene:
    """The drawn part of the mesh and the sky light at its vertices."""

    face_ids: np.ndarray
    faces: np.ndarray
    two_sided: np.ndarray
    ambient: np.ndarray
    """(V,) share of the sky that each vertex sees, 0..1."""


def build_scene(person: Person, body: Body) -> Scene:
    """Drop the hair that was cut off and measure the sky at every vertex."""
    face_ids = np.flatnonzero(person.visible[body.faces].all(1))
    faces = np.ascontiguousarray(body.faces[face_ids])
    two_sided = np.ascontiguousarray(body.two_sided[face_ids])
    return Scene(face_ids, faces, two_sided, _sky_light(person.vertices, person.normals, faces, two_sided))


@dataclass(frozen=True)
class DepthMap:
    """Orthographic view of the mesh from a direction."""

    u: np.ndarray
    v: np.ndarray
    origin: np.ndarray
    scale: float
    depth: np.ndarray

    def pixel(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of each of (N, 3) points."""
        axes = zip((self.v, self.u), self.origin[::-1], strict=True)
        places = [(points @ axis - start) * np.float32(self.scale) for axis, start in axes]
        row, col = (np.clip(place.astype(np.int32), 0, len(self.depth) - 1) for place in places)
        return row, col


def depth_map(
    vertices: np.ndarray, towards: np.ndarray, faces: np.ndarray, two_sided: np.ndarray, res: int
) -> DepthMap:
    """Look at the mesh from far away, opposite to the unit vector ``towards``, at (res, res) pixels."""
    u = unit(np.cross([0.13, 0.31, 0.94], towards)).astype(np.float32)
    v = np.cross(u, towards).astype(np.float32)  # u x v points away from the light: faces keep their winding
    x, y = vertices @ u, vertices @ v
    origin = np.array([x.min(), y.min()], np.float32) - np.float32(1e-3)
    scale = np.float32(res / (max(np.ptp(x), np.ptp(y)) + 2e-3))
    xy = np.stack([(x - origin[0]) * scale, (y - origin[1]) * scale], 1)
    depth, face_at = np.full((res, res), np.inf, np.float32), np.empty((res, res), np.int32)
    rasterize(xy, -(vertices @ towards), faces, two_sided, res, res, face_at, depth)
    return DepthMap(u, v, origin, float(scale), depth)


def _sky_light(vertices: np.ndarray, normals: np.ndarray, faces: np.ndarray, two_sided: np.ndarray) -> np.ndarray:
    turn = np.arange(_SKY) * 2.399963  # golden angle: directions spread evenly
    height = 1 - 1.75 * (np.arange(_SKY) + 0.5) / _SKY
    radius = np.sqrt(1 - height**2)
    raised = vertices + normals * np.float32(0.004)
    seen, total = np.zeros(len(vertices), np.float32), np.full(len(vertices), 1e-6, np.float32)
    for towards in np.stack([np.cos(turn) * radius, np.sin(turn) * radius, height], 1).astype(np.float32):
        seen_from = depth_map(vertices, towards, faces, two_sided, _SKY_RES)
        row, col = seen_from.pixel(raised)
        brightness = np.float32(0.35 + 0.65 * max(0, towards[2]) + 0.25 * max(0, -towards[1]))
        weight = np.clip(normals @ towards, 0, 1) * brightness
        seen += weight * (seen_from.depth[row, col] >= -(raised @ towards) - 0.012)
        total += weight
    return seen / total

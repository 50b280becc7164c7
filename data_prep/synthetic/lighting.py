"""Light: a sun with soft shadows, a sky that reaches open places more than hidden ones, and how surfaces answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .body import Body
from .geometry import Z, unit
from .person import Person
from .rasterizer import rasterize, soft_shadow

if TYPE_CHECKING:
    from .fragments import Fragments
    from .materials import Material

_SHADOW_RES = 1536
_SKY_RES = 224
_SKY = 14
"""Number of sky directions of the ambient light."""


@dataclass(frozen=True)
class Lights:
    """Direction to the key light and linear colours (3,) of key and sky."""

    direction: np.ndarray
    key: np.ndarray
    sky: np.ndarray
    softness: float
    """Radius of the shadow's blur at the caster, metres."""
    exposure: float


@dataclass(frozen=True)
class Scene:
    """The drawn part of the mesh and the sky light at its vertices."""

    face_ids: np.ndarray
    faces: np.ndarray
    two_sided: np.ndarray
    ambient: np.ndarray
    """(V,) share of the sky that each vertex sees, 0..1."""


def draw_lights(person: Person) -> Lights:
    """Key light from above and in front, sky from everywhere; one warmer than the other."""
    rng, camera = person.stream("light"), person.camera
    direction = unit(
        camera.right * rng.uniform(-1, 1) + Z * rng.uniform(0.25, 1.1) - camera.forward * rng.uniform(0.5, 1.2)
    )
    warm = rng.normal() * 0.06
    key = np.array([1 + warm, 1, 1 - warm]) * rng.uniform(0.55, 1.0)
    sky = np.array([1 - warm * 0.7, 1, 1 + warm * 0.7]) * rng.uniform(0.28, 0.55)
    softness, exposure = rng.uniform(0.002, 0.007), rng.uniform(0.9, 1.25)
    return Lights(
        direction.astype(np.float32), key.astype(np.float32), sky.astype(np.float32), softness, float(exposure)
    )


def build_scene(person: Person, body: Body) -> Scene:
    """Drop what is not drawn (cut hair, the tongue) and measure the sky at every vertex."""
    face_ids = np.flatnonzero(person.visible[body.faces].all(1))
    faces = np.ascontiguousarray(body.faces[face_ids])
    two_sided = np.ascontiguousarray(body.two_sided[face_ids])
    return Scene(face_ids, faces, two_sided, _sky_light(person.vertices, person.normals, faces, two_sided))


@dataclass(frozen=True)
class _DepthMap:
    """Orthographic view of the mesh from a direction."""

    u: np.ndarray
    v: np.ndarray
    origin: np.ndarray
    scale: float
    depth: np.ndarray


def _depth_map(
    vertices: np.ndarray, towards: np.ndarray, faces: np.ndarray, two_sided: np.ndarray, res: int
) -> _DepthMap:
    u = unit(np.cross([0.13, 0.31, 0.94], towards)).astype(np.float32)
    v = np.cross(u, towards).astype(np.float32)  # u x v points away from the light: faces keep their winding
    flat = np.stack([vertices @ u, vertices @ v], 1)
    origin = flat.min(0) - np.float32(1e-3)
    scale = res / float(np.ptp(flat, axis=0).max() + 2e-3)
    xy = ((flat - origin) * np.float32(scale)).astype(np.float32)
    depth, face_at = np.full((res, res), np.inf, np.float32), np.empty((res, res), np.int32)
    rasterize(xy, -(vertices @ towards), faces, two_sided, res, res, face_at, depth)
    return _DepthMap(u, v, origin, scale, depth)


def _sky_light(vertices: np.ndarray, normals: np.ndarray, faces: np.ndarray, two_sided: np.ndarray) -> np.ndarray:
    turn = np.arange(_SKY) * 2.399963  # golden angle: directions spread evenly
    height = 1 - 1.75 * (np.arange(_SKY) + 0.5) / _SKY
    radius = np.sqrt(1 - height**2)
    raised = vertices + normals * np.float32(0.004)
    seen, total = np.zeros(len(vertices), np.float32), np.full(len(vertices), 1e-6, np.float32)
    for towards in np.stack([np.cos(turn) * radius, np.sin(turn) * radius, height], 1).astype(np.float32):
        depth_map = _depth_map(vertices, towards, faces, two_sided, _SKY_RES)
        flat = np.stack([raised @ depth_map.v, raised @ depth_map.u], 1) - depth_map.origin[::-1]
        row, col = np.clip((flat * depth_map.scale).astype(int), 0, _SKY_RES - 1).T
        brightness = np.float32(0.35 + 0.65 * max(0, towards[2]) + 0.25 * max(0, -towards[1]))
        weight = np.clip(normals @ towards, 0, 1) * brightness
        seen += weight * (depth_map.depth[row, col] >= -(raised @ towards) - 0.012)
        total += weight
    return seen / total


def _shadow(person: Person, scene: Scene, lights: Lights, fragments: Fragments) -> np.ndarray:
    lit = np.ones(len(fragments.pixels), np.float32)
    m = _depth_map(person.vertices, lights.direction, scene.faces, scene.two_sided, _SHADOW_RES)
    rng = np.random.default_rng(1)
    taps = unit(rng.normal(size=(4093, 3)))[:, :2] * np.sqrt(rng.random((4093, 1)))
    scale, blur = np.float32(m.scale), np.float32(m.scale * lights.softness)
    points, normals = np.ascontiguousarray(fragments.position), np.ascontiguousarray(fragments.normal)
    light, jitter = lights.direction, taps.astype(np.float32)
    soft_shadow(points, normals, light, m.u, m.v, m.origin, scale, m.depth, jitter, blur, lit)
    return lit


def shade(person: Person, scene: Scene, lights: Lights, fragments: Fragments, material: Material) -> np.ndarray:
    """(N, 3) float32 linear colour of every fragment."""
    lit = _shadow(person, scene, lights, fragments)
    fine, coarse = fragments.grain[:, 1], fragments.grain[:, 0]
    bumps = np.stack([material.bump * fine, material.bump * coarse, -material.bump * fine], 1)
    normal = fragments.normal + bumps
    normal /= np.sqrt(np.einsum("nk,nk->n", normal, normal))[:, None] + np.float32(1e-9)
    facing, skin = normal @ lights.direction, 1 - material.cloth
    direct = np.clip(facing, 0, 1) * lit * (0.8 + 0.2 * material.cloth)
    wrapped = np.clip((facing + 0.25) / 1.25, 0, 1) * (0.35 + 0.65 * lit) * 0.2 * skin  # light that bleeds through skin
    sky = (0.65 + 0.35 * normal[:, 2]) * (0.25 + 0.75 * fragments.ambient)
    halfway = fragments.view + lights.direction
    halfway /= np.sqrt(np.einsum("nk,nk->n", halfway, halfway))[:, None] + np.float32(1e-9)
    shine = np.clip(np.einsum("nk,nk->n", normal, halfway), 0, 1) ** 24 * material.specular * lit * 0.8
    rim = (1 - np.clip(np.einsum("nk,nk->n", normal, fragments.view), 0, 1)) ** 3 * 0.05 * skin * sky
    colour = np.empty((len(lit), 3), np.float32)
    for k, red in enumerate((1.25, 0.95, 0.85)):
        diffuse = (direct + wrapped * red) * lights.key[k] + sky * lights.sky[k]
        colour[:, k] = material.albedo[:, k] * diffuse + shine * lights.key[k] + rim * lights.sky[k]
    return colour

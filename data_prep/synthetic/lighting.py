"""Light: a sun with soft shadows, a sky that reaches open places more than hidden ones, and how surfaces answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fragments import Fragments
from .geometry import Z, unit
from .materials import Material
from .person import Person
from .rasterizer import soft_shadow
from .scene import Scene, depth_map
from .textures import unit_rows

_SHADOW_RES = 1536


@dataclass(frozen=True)
class Lights:
    """Direction to the key light and linear colours (3,) of key and sky."""

    direction: np.ndarray
    key: np.ndarray
    sky: np.ndarray
    softness: float
    """Radius of the shadow's blur at the caster, metres."""
    exposure: float


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


def _shadow(person: Person, scene: Scene, lights: Lights, fragments: Fragments) -> np.ndarray:
    lit = np.ones(len(fragments.pixels), np.float32)
    m = depth_map(person.vertices, lights.direction, scene.faces, scene.two_sided, _SHADOW_RES)
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
    normal = unit_rows(fragments.normal + bumps)
    facing, skin = normal @ lights.direction, 1 - material.cloth
    direct = np.clip(facing, 0, 1) * lit * (0.8 + 0.2 * material.cloth)
    wrapped = np.clip((facing + 0.25) / 1.25, 0, 1) * (0.35 + 0.65 * lit) * 0.2 * skin  # light that bleeds through skin
    sky = (0.65 + 0.35 * normal[:, 2]) * (0.25 + 0.75 * fragments.ambient)
    halfway = unit_rows(fragments.view + lights.direction)
    shine = np.clip(np.einsum("nk,nk->n", normal, halfway), 0, 1) ** 24 * material.specular * lit * 0.8
    rim = (1 - np.clip(np.einsum("nk,nk->n", normal, fragments.view), 0, 1)) ** 3 * 0.05 * skin * sky
    colour = np.empty((len(lit), 3), np.float32)
    for k, red in enumerate((1.25, 0.95, 0.85)):
        diffuse = (direct + wrapped * red) * lights.key[k] + sky * lights.sky[k]
        colour[:, k] = material.albedo[:, k] * diffuse + shine * lights.key[k] + rim * lights.sky[k]
    return colour

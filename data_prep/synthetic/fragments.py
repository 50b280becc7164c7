"""From a posed mesh to fragments: what surface every pixel sees, before it has a colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .body import Body
from .fields import Fields
from .lighting import Scene
from .person import Person
from .rasterizer import interpolate, rasterize


@dataclass
class Fragments:
    """The N pixels of a (res, res) image that see the person; float32 unless said otherwise."""

    res: int
    pixels: np.ndarray
    """(N,) int flat index of each pixel."""
    part: np.ndarray
    """(N,) int part of the body, see ``Body.part``."""
    eye: np.ndarray
    """(N,) int 0 none, 1 left, 2 right eyeball."""
    depth: np.ndarray
    uv: np.ndarray
    normal: np.ndarray
    """(N, 3) unit, towards the camera."""
    rest: np.ndarray
    """(N, 3) position on the rest mesh, the space in which clothes and faces are painted."""
    position: np.ndarray
    """(N, 3) position in the world."""
    hairline: np.ndarray
    shirt: np.ndarray
    palm: np.ndarray
    ambient: np.ndarray
    view: np.ndarray
    """(N, 3) unit vector to the camera."""
    grain: np.ndarray
    """(N, 2) smooth noise with standard deviation about 1, fixed to the skin."""


def trace(person: Person, body: Body, fields: Fields, scene: Scene, res: int) -> Fragments:
    """Rasterise ``person`` at (res, res) pixels; ``scene`` is the mesh with its ambient light."""
    camera, faces = person.camera, scene.faces
    in_camera = camera.to_camera(person.vertices).astype(np.float32)
    xy = camera.project(person.vertices, res)[:, :2].astype(np.float32)
    face_at, depth_at = np.full((res, res), -1, np.int32), np.full((res, res), np.inf, np.float32)
    rasterize(xy, np.ascontiguousarray(in_camera[:, 2]), faces, scene.two_sided, res, res, face_at, depth_at)
    pixels = np.flatnonzero(face_at >= 0)
    hit = face_at.ravel()[pixels]
    columns = [
        *(person.normals, body.rest_vertices, person.vertices, fields.hairline[:, None]),
        *(person.shirt[:, None], fields.palm[:, None], scene.ambient[:, None]),
    ]
    attributes = np.concatenate(columns, 1).astype(np.float32)
    values, uv = np.empty((len(pixels), attributes.shape[1]), np.float32), np.empty((len(pixels), 2), np.float32)
    depth, face_uv = np.empty(len(pixels), np.float32), body.face_uv[scene.face_ids]
    focal = np.float32(camera.focal)
    interpolate(pixels, hit, res, focal, in_camera, faces, attributes, body.uv, face_uv, values, uv, depth)
    normal, rest, position = unit_rows(values[:, :3]), values[:, 3:6], values[:, 6:9]
    view = unit_rows(camera.centre.astype(np.float32) - position)
    part = body.part_of_face[scene.face_ids][hit]
    normal[(part >= body.part["longhair"]) & (np.einsum("nk,nk->n", normal, view) < 0)] *= -1
    shift = person.stream("grain").random(2).astype(np.float32)
    return Fragments(
        *(res, pixels, part, body.eye_of_face[scene.face_ids][hit], depth, uv, normal, rest, position),
        *(values[:, 9], values[:, 10], values[:, 11], values[:, 12], view),
        grain=sample_texture(noise_texture(), uv * np.float32(3) + shift),
    )


def unit_rows(v: np.ndarray) -> np.ndarray:
    """(N, 3) float32 vectors of length one."""
    return v / (np.sqrt(np.einsum("nk,nk->n", v, v))[:, None] + np.float32(1e-9))


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

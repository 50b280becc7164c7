"""From a posed mesh to fragments: what surface every pixel sees, before it has a colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import Body
from .fields import Fields
from .person import Person
from .rasterizer import interpolate, rasterize
from .scene import Scene
from .textures import noise_texture, sample_texture, unit_rows


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

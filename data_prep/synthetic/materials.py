"""What each fragment is made of: skin, hair, cloth, nails, lips and eyes, painted in the space of the rest mesh."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .body import Body, load_body
from .fields import Fields, azimuth
from .fragments import Fragments
from .geometry import Y, unit
from .looks import Clothes, Looks
from .person import Person
from .textures import noise_texture, sample_texture, unit_rows

_WAIST = 0.19
"""z of the rest mesh where the trousers begin, metres."""


@dataclass
class Material:
    """Per fragment, float32; albedo is linear light."""

    albedo: np.ndarray
    specular: np.ndarray
    bump: np.ndarray
    cloth: np.ndarray
    """1 cloth, 0 skin."""


def paint(person: Person, body: Body, fields: Fields, fragments: Fragments) -> Material:
    """Materials of all fragments; may also replace the normals of the eyeballs."""
    looks, n = person.looks, len(fragments.pixels)
    shade = 1 + np.float32(0.05) * (fragments.grain[:, 0] + fragments.grain[:, 1])
    material = Material(
        albedo=looks.skin * shade[:, None],
        specular=np.full(n, 0.06, np.float32),
        bump=np.full(n, 0.0175, np.float32),
        cloth=np.zeros(n, np.float32),
    )
    part, number = fragments.part, body.part
    _paint_hands(material, fragments, looks, np.flatnonzero((part == number["hand.L"]) | (part == number["hand.R"])))
    _paint_head(material, fragments, looks, fields, np.flatnonzero(part == number["head"]))
    _paint_strands(material, fragments, looks, np.flatnonzero(part == number["longhair"]))
    material.albedo[part == number["lash"]] = 0.01
    material.albedo[part == number["mouth_cavity"]] = np.array([0.12, 0.03, 0.03])
    _paint_clothes(material, fragments, person.clothes, body)
    _paint_eyes(material, fragments, person, body)
    return material


def blend(a: np.ndarray, share: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 3) ``a`` replaced by ``b`` (3,) or (N, 3) to the extent of ``share`` (N,)."""
    return a + (b - a) * share[:, None]


@lru_cache(maxsize=1)
def _face_texture() -> np.ndarray:
    textures = load_body().textures
    return np.ascontiguousarray(np.stack([textures[k] for k in ("lips", "eyelids", "ears", "face")], 2))


def _paint_hands(material: Material, fragments: Fragments, looks: Looks, i: np.ndarray) -> None:
    pink = np.array([0.86, 0.60, 0.50], np.float32) ** np.float32(2.2)
    palm = looks.skin * 0.55 + pink * 0.45 if looks.tone > 0.4 else looks.skin * np.array([1.06, 0.93, 0.92])
    shade = 1 + np.float32(0.05) * fragments.grain[i].sum(1)
    nails = sample_texture(load_body().textures["fingernails"], fragments.uv[i])
    skin = blend(material.albedo[i], fragments.palm[i], palm.astype(np.float32) * shade[:, None])
    material.albedo[i] = blend(skin, nails, looks.nails)
    material.specular[i] += 0.25 * nails


def _paint_head(material: Material, fragments: Fragments, looks: Looks, fields: Fields, i: np.ndarray) -> None:
    rest, grain, albedo = fragments.rest[i], fragments.grain[i], material.albedo[i]
    lips, lids, ears, face = sample_texture(_face_texture(), fragments.uv[i]).T
    blush = _blush(rest, face, fields.eye_height)
    albedo = albedo * (1 + blush[:, None] * np.array([0.12, -0.14, -0.16], np.float32))
    albedo = blend(albedo, lips * 0.8, looks.lips) * (1 - 0.3 * lids)[:, None]
    albedo = blend(albedo, _brows(rest, grain, fields, looks), looks.hair_colour * 0.8)
    if looks.beard:
        beard = _beard(rest, fields.eye_height) * (1 - lips) * np.clip(0.8 + 0.2 * grain[:, 1], 0, 1)
        albedo = blend(albedo, looks.beard * beard, looks.hair_colour * 1.2)
    material.specular[i] += 0.12 * lips
    if looks.hair_cut != "bald":
        strands = _strands(rest, 0.25)
        edge = fragments.hairline[i] + 0.005 * strands[:, 1] + 0.002 * grain[:, 0]
        hair = np.clip(edge / 0.004, 0, 1) * (1 - np.clip(ears * 2, 0, 1))
        albedo = blend(albedo, hair, _hair_colour(looks, strands))
        material.specular[i] = material.specular[i] * (1 - hair) + 0.12 * hair
        material.bump[i] += 0.05 * hair
    material.albedo[i] = albedo


def _blush(rest: np.ndarray, face: np.ndarray, eye_height: float) -> np.ndarray:
    """Red cheeks and tip of the nose, 0..1."""
    x, z = np.abs(rest[:, 0]), rest[:, 2] - eye_height
    cheeks = np.exp(-(((x - 0.04) / 0.018) ** 2 + ((z + 0.038) / 0.018) ** 2)) * (face > 0.3)
    nose = 0.7 * np.exp(-((x / 0.015) ** 2 + ((z + 0.035) / 0.015) ** 2)) * (rest[:, 1] < -0.11)
    return cheeks + nose


def _brows(rest: np.ndarray, grain: np.ndarray, fields: Fields, looks: Looks) -> np.ndarray:
    """Density of the eyebrows, 0..1: an arc above each eye that thins outwards."""
    across = np.abs(rest[:, 0]) - fields.eye_x
    arc = fields.eye_height + 0.0215 + 0.10 * (across + 0.018) - 14.4 * np.maximum(across - 0.004, 0) ** 2
    taper = np.clip((0.030 - across) / 0.02, 0.25, 1) * np.clip((across + 0.024) / 0.008, 0, 1)
    width = 0.0036 * looks.brow * taper
    density = np.clip(1.5 - np.abs(rest[:, 2] - arc) / (width + 1e-5), 0, 1)
    return density * (rest[:, 1] < -0.06) * (across < 0.03) * np.clip(0.75 + 0.3 * grain[:, 1], 0.3, 1)


def _beard(rest: np.ndarray, eye_height: float) -> np.ndarray:
    x, z = np.abs(rest[:, 0]), rest[:, 2]
    below_cheeks = np.clip((eye_height - 0.055 - z + 0.25 * np.maximum(x - 0.03, 0)) / 0.012, 0, 1)
    return below_cheeks * np.clip((z - (eye_height - 0.135)) / 0.01, 0, 1) * (rest[:, 1] < -0.02)


def _strands(rest: np.ndarray, stretch: float) -> np.ndarray:
    """(N, 2) noise that runs along the hair."""
    uv = np.stack([azimuth(rest) * 0.9 + 0.5, rest[:, 2] * stretch], 1)
    return sample_texture(noise_texture(), uv.astype(np.float32))


def _hair_colour(looks: Looks, strands: np.ndarray) -> np.ndarray:
    return looks.hair_colour * np.clip(1 + strands @ np.array([0.35, 0.3], np.float32), 0.2, 2.5)[:, None]


def _paint_strands(material: Material, fragments: Fragments, looks: Looks, i: np.ndarray) -> None:
    material.albedo[i] = _hair_colour(looks, _strands(fragments.rest[i], 0.12))
    material.specular[i], material.bump[i] = 0.12, 0.08


def _paint_clothes(material: Material, fragments: Fragments, clothes: Clothes, body: Body) -> None:
    not_hand = ~np.isin(fragments.part, [body.part["hand.L"], body.part["hand.R"]])
    i = np.flatnonzero((fragments.shirt > 0) & not_hand & (fragments.part < body.part["longhair"]))
    cover, rest, grain = np.clip(fragments.shirt[i] / 0.3, 0, 1), fragments.rest[i], fragments.grain[i]
    pattern = _pattern(clothes, rest)
    colour = clothes.colours[0] + (clothes.colours[1] - clothes.colours[0]) * pattern[:, None]
    below_waist = np.clip((_WAIST - rest[:, 2]) / 0.004, 0, 1) * (np.abs(rest[:, 0]) < 0.3)
    colour = blend(colour, below_waist, clothes.trousers)
    weave = 1 + np.float32(0.06) * grain[:, 1] + np.float32(0.05) * grain[:, 0]
    material.albedo[i] = blend(material.albedo[i], cover, colour * weave[:, None])
    material.specular[i] *= 1 - cover * 0.8
    material.bump[i] += 0.035 * cover
    material.cloth[i] = cover


def _pattern(clothes: Clothes, rest: np.ndarray) -> np.ndarray:
    """(N,) share of the second colour."""
    x, z, f = rest[:, 0], rest[:, 2], clothes.frequency
    if clothes.pattern == "striped":
        return (np.sin(z * f) > clothes.stripe).astype(np.float32)
    if clothes.pattern == "vertically striped":
        return (np.sin(x * f) > clothes.stripe).astype(np.float32)
    if clothes.pattern == "checked":
        return np.float32(0.5) * (np.sin(z * f) > 0.3) + np.float32(0.5) * (np.sin(x * f) > 0.3)
    if clothes.pattern == "dotted":
        return (np.sin(z * f) * np.sin(x * f) > 0.6).astype(np.float32)
    if clothes.pattern == "two-tone":
        return np.clip((clothes.edge - z) / 0.01, 0, 1).astype(np.float32)
    return np.zeros(len(rest), np.float32)


def _paint_eyes(material: Material, fragments: Fragments, person: Person, body: Body) -> None:
    """Pupil, iris and white by the angle from the gaze, which lies between straight ahead and the camera."""
    ahead = person.skeleton.rotations[body.bone["head"]] @ -Y
    for number, bone in ((1, "eye.L"), (2, "eye.R")):
        i = np.flatnonzero(fragments.eye == number)
        centre = person.skeleton.joints[body.bone[bone]]
        gaze = unit(ahead + unit(person.camera.centre - centre)).astype(np.float32)
        outwards = unit_rows(fragments.position[i] - centre.astype(np.float32))
        angle = np.degrees(np.arccos(np.clip(outwards @ gaze, -1, 1)))[:, None]
        iris = person.looks.iris * (1 - 0.6 * (angle > 24))
        white = np.array([0.62, 0.58, 0.56], np.float32)
        material.albedo[i] = np.where(angle < 11, np.float32(0.004), np.where(angle < 27, iris, white))
        material.specular[i] = 0.5
        fragments.normal[i] = outwards

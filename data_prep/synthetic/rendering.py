"""From a person to a picture: fragments, materials, light, background and a slightly imperfect sensor."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from h2d.skeleton import HAND_LABELS

from .background import draw_background
from .body import Body, load_body
from .colours import colour_word
from .fields import body_fields
from .fragments import Fragments, trace
from .geometry import SIDE_LETTER
from .labels import exact_pose
from .lighting import draw_lights, shade
from .materials import paint
from .person import Person, sample_person
from .scene import build_scene


@dataclass
class Rendered:
    """One picture with its exact labels."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    hands: np.ndarray
    """(H, W) uint8: 0 background, 1 the person's right hand, 2 the left hand."""
    person: np.ndarray
    """(H, W) uint8: 255 where the person covers more than half of the pixel."""
    pose: np.ndarray
    """(133, 3) float32 keypoints in pixels, see ``labels.exact_pose``."""
    gestures: dict[str, str | None]
    """HaGRID gesture of "right" and "left"; None for a hanging hand."""
    lead: str
    """Side of the hand whose gesture names the picture."""
    encounter: str | None
    """How the hands interact, if they do; see ``staging.ENCOUNTERS``."""
    attributes: dict[str, str]
    """Plain words for captions."""
    user: int
    """Number of the person."""


def render_person(
    seed: int, index: int, size: int = 512, *, gesture: str | None = None, supersampling: int = 2
) -> Rendered:
    """Render picture ``index`` of the endless data set ``seed``; the same arguments give the same bytes.

    Args:
        seed: non-negative seed of the data set.
        index: non-negative number of the picture.
        size: side of the square image in pixels.
        gesture: a key of ``GESTURES`` for the leading hand; drawn when None.
        supersampling: samples per pixel along each axis.
    """
    person, body = sample_person(seed, index, gesture), load_body()
    lights, scene = draw_lights(person), build_scene(person, body)
    fragments = trace(person, body, body_fields(), scene, size * supersampling)
    colour = shade(person, scene, lights, fragments, paint(person, body, body_fields(), fragments))
    background = draw_background(person.stream("background"), size) * (lights.key + lights.sky)
    coverage = _resolve(fragments, np.ones(len(colour), np.float32), size)
    linear = _resolve(fragments, colour, size) + background * (1 - coverage)[..., None]
    depth = np.full(fragments.res**2, np.inf, np.float32)
    depth[fragments.pixels] = fragments.depth
    return Rendered(
        image=_expose(linear * np.float32(lights.exposure), person.stream("sensor")),
        hands=_hand_mask(fragments, body, size),
        person=np.where(coverage > 0.5, 255, 0).astype(np.uint8),
        pose=exact_pose(person, body, depth.reshape(fragments.res, -1), size),
        gestures={side: person.plan.gestures[side] for side in HAND_LABELS},
        lead=person.plan.lead,
        encounter=person.plan.encounter,
        attributes=_attributes(person, background),
        user=person.user,
    )


def _resolve(fragments: Fragments, values: np.ndarray, size: int) -> np.ndarray:
    """Values of the fragments (N,) or (N, C) averaged to (size, size[, C]); zero elsewhere."""
    full = np.zeros((fragments.res**2, *values.shape[1:]), np.float32)
    full[fragments.pixels] = values
    full = full.reshape(fragments.res, fragments.res, *values.shape[1:])
    return full if fragments.res == size else cv2.resize(full, (size, size), interpolation=cv2.INTER_AREA)


def _hand_mask(fragments: Fragments, body: Body, size: int) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    for side, label in HAND_LABELS.items():
        on_hand = (fragments.part == body.part[f"hand.{SIDE_LETTER[side]}"]).astype(np.float32)
        mask[_resolve(fragments, on_hand, size) > 0.5] = label
    return mask


def _expose(linear: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: tone curve, sometimes a slight blur, sensor noise."""
    image: np.ndarray = linear / (1 + np.float32(0.12) * linear)
    image = np.clip(image, 0, 1) ** np.float32(1 / 2.2)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7) * len(image) / 512)
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.003, 0.014))
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _attributes(person: Person, background: np.ndarray) -> dict[str, str]:
    looks, clothes = person.looks, person.clothes
    return {
        "sex": looks.sex,
        "skin": looks.skin_word,
        "hair": looks.hair,
        "beard": "beard" if looks.beard > 0.4 else "none",
        "expression": "smiling" if person.expression[0] > 0.35 else "neutral",
        "top": clothes.top,
        "sleeve": clothes.sleeve,
        "background": colour_word(np.median(background[::8, ::8].reshape(-1, 3), 0)),
    }

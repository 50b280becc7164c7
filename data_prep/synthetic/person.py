"""One person of one picture: shape, clothes, pose and camera, ready to be rendered and labelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import Body, Shape, Skeleton, load_body
from .camera import Camera, draw_view, frame_person
from .encounters import settle
from .fields import Fields, body_fields
from .geometry import OUTWARD, SIDE_LETTER, SIDES, Y, random_stream, rotation
from .gestures import GESTURES, RELAXED, finger_rotations, mediapipe_points
from .looks import Clothes, Looks, draw_clothes, draw_expression, draw_looks
from .posing import HandTarget, arm_length, posture, reach
from .staging import ENCOUNTERS, Plan, bring_together, hold, let_hang, plan_picture, raise_hand, raise_to_lips

PICTURES_PER_USER = 2
"""Consecutive pictures that show the same person, in other clothes."""
MOUTH_BELOW_EYES = 0.064
_NEAREST, _NEAREST_MEETING = 0.75, 1.1
"""Least distance of the camera in metres; closer, perspective pulls interacting hands apart."""


@dataclass
class Person:
    """Everything that the renderer and the labels need; metres, world axes."""

    seed: int
    index: int
    plan: Plan
    looks: Looks
    clothes: Clothes
    expression: np.ndarray
    shirt: np.ndarray
    """(V,) positive where the shirt covers the skin."""
    visible: np.ndarray
    """(V,) False for the part of long hair that was cut off."""
    skeleton: Skeleton
    vertices: np.ndarray
    normals: np.ndarray
    hand_points: dict[str, np.ndarray]
    """(21, 3) by side, in MediaPipe's convention."""
    camera: Camera

    @property
    def user(self) -> int:
        """Number of the person; the same for ``PICTURES_PER_USER`` pictures."""
        return user_of(self.index)

    def stream(self, purpose: str) -> np.random.Generator:
        """A generator of this picture for one purpose."""
        return random_stream(self.seed, purpose, self.index)


def user_of(index: int) -> int:
    """Number of the person in picture ``index``."""
    return index // PICTURES_PER_USER


def sample_person(seed: int, index: int, gesture: str | None = None) -> Person:
    """Draw the person of picture ``index``; the same arguments always give the same person."""
    body, plan = load_body(), plan_picture(seed, index, gesture)
    user = random_stream(seed, "user", user_of(index))
    looks = draw_looks(user)
    rng = random_stream(seed, "clothes", index)
    clothes, expression = draw_clothes(rng), draw_expression(rng)
    shape = body.shape(looks.sex, user, expression)
    shirt = _shirt_field(body_fields(), body, clothes)
    dressed = _dress(shape, body, looks, shirt, rng)
    camera_rng = random_stream(seed, "camera", index)
    view = draw_view(camera_rng)
    skeleton = _pose(body, shape, plan, view, random_stream(seed, "pose", index))
    vertices = body.skin(dressed, shape.joints, skeleton)
    hands = {side: mediapipe_points(body.hand_points(vertices, skeleton, side)) for side in SIDES}
    camera = _camera(body, skeleton, hands, plan, view, camera_rng)
    return Person(
        seed=seed,
        index=index,
        plan=plan,
        looks=looks,
        clothes=clothes,
        expression=expression,
        shirt=shirt,
        visible=_uncut(body, looks),
        skeleton=skeleton,
        vertices=vertices,
        normals=body.normals(vertices),
        hand_points=hands,
        camera=camera,
    )


def _shirt_field(fields: Fields, body: Body, clothes: Clothes) -> np.ndarray:
    neck = fields.neck - clothes.neck
    if clothes.v_neck:
        v = body.rest_vertices
        front = v[:, 1] < 0
        notch = v[:, 2] - (0.69 - 0.0) + 0.10 - 1.4 * np.abs(v[:, 0])
        neck = np.where(front & (v[:, 2] > 0.5), np.minimum(neck, -notch * 0.5), neck)
    sleeve = (clothes.sleeve_end - fields.arm) * 0.25
    return np.minimum.reduce([neck / 0.01, sleeve / 0.01, np.where(fields.head > 0.3, -1, 1.0)]).astype(np.float32)


def _dress(shape: Shape, body: Body, looks: Looks, shirt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(V, 3) rest vertices pushed outwards where cloth (with folds) or hair covers the skin."""
    x, _, z = (body.rest_vertices * 30).T
    p = rng.uniform(0, 6, 6)
    folds = np.sin(x * 1.3 + 2 * np.sin(z * 0.7 + p[0]) + p[1]) * np.sin(z * 1.1 + np.sin(x + p[2]) * 1.5)
    push = np.clip(shirt, 0, 1) * (0.007 + 0.0035 * folds)
    if looks.hair_cut != "bald":
        fields = body_fields()
        waves = np.sin(3 * fields.azimuth + p[3]) * np.sin(body.rest_vertices[:, 2] * 60 + p[4])
        push = push + np.clip(fields.hairline / 0.03, 0, 1) * looks.hair_thickness * (1 + 0.35 * waves)
    return shape.vertices + body.normals(shape.vertices) * push[:, None].astype(np.float32)


def _uncut(body: Body, looks: Looks) -> np.ndarray:
    visible = np.ones(len(body.rest_vertices), bool)
    strands = np.unique(body.faces[body.part_of_face == body.part["longhair"]])
    if looks.hair_cut != "long":
        visible[strands] = False
    visible[strands[body.rest_vertices[strands, 2] < looks.hair_end]] = False
    return visible


def _pose(body: Body, shape: Shape, plan: Plan, view: np.ndarray, rng: np.random.Generator) -> Skeleton:
    turns = posture(rng)
    for side in SIDES:
        name = plan.gestures[side]
        if name is not None:
            turns[f"clavicle.{SIDE_LETTER[side]}"] = rotation(Y, -OUTWARD[side] * rng.uniform(0, 8))
        shown = GESTURES[name] if name else RELAXED
        turns |= finger_rotations(body, shown, side, rng, 1.0 if name else 1.5)
    torso = body.skeleton(shape.joints, turns)
    targets = _targets(body, shape.joints, torso, plan, view, rng)
    if plan.encounter:
        return settle(body, shape.joints, turns, targets, ENCOUNTERS[plan.encounter], view, rng)
    return reach(body, shape.joints, turns, targets)


def _targets(
    body: Body, joints: np.ndarray, torso: Skeleton, plan: Plan, view: np.ndarray, rng: np.random.Generator
) -> dict[str, HandTarget]:
    arm, chest = arm_length(body, joints), torso.rotations[body.bone["spine01"]]
    targets = {}
    for side in SIDES:
        name, shoulder = plan.gestures[side], torso.joints[body.bone[f"upperarm01.{SIDE_LETTER[side]}"]]
        if name is None:
            targets[side] = let_hang(side, shoulder, arm, rng)
            continue
        gesture = GESTURES[name]
        held = hold(gesture, side, rng)
        if gesture.facing == "lips":
            head, mouth = _mouth(body, joints, torso)
            targets[side] = raise_to_lips(held, side, body, joints, head, mouth)
        else:
            targets[side] = raise_hand(held, gesture.facing, side, shoulder, chest, arm, rng)
    return bring_together(targets, ENCOUNTERS[plan.encounter], torso, body, view, rng) if plan.encounter else targets


def _mouth(body: Body, joints: np.ndarray, torso: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) rotation of the head and (3,) position of the lips."""
    i = body.bone["head"]
    eyes = (joints[body.bone["eye.L"]] + joints[body.bone["eye.R"]]) / 2
    lips = eyes + np.array([0, -0.025, -MOUTH_BELOW_EYES])
    return torso.rotations[i], torso.joints[i] + torso.rotations[i] @ (lips - joints[i])


def _camera(
    body: Body, skeleton: Skeleton, hands: dict[str, np.ndarray], plan: Plan, view: np.ndarray, rng: np.random.Generator
) -> Camera:
    head = skeleton.joints[body.bone["head"]] + np.array([0, 0, 0.06])
    hanging = np.array([hands[side] for side in SIDES if side not in plan.shown]).reshape(-1, 21, 3)
    shown = np.concatenate([hands[side] for side in plan.shown])
    chest, nearest = skeleton.joints[body.bone["spine01"]], _NEAREST_MEETING if plan.encounter else _NEAREST
    return frame_person(view, head, chest, shown, hanging, nearest, rng)

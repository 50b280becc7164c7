"""Who shows what with which hand, and where the hands are held: the choreography of one picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from h2d.errors import ConfigError

from .body import Body, Skeleton
from .geometry import OUTWARD, SIDE_LETTER, SIDES, X, Y, Z, random_stream, rotation, unit
from .gestures import GESTURES, Gesture
from .posing import HandTarget, hand_rotation

SCENES = {"one": 0.58, "two": 0.17, "interacting": 0.25}
"""Chances of one raised hand, two apart from each other, and two that overlap. Gestures that cannot meet take the
second kind instead, which leaves 15 % of interacting hands and 27 % of two apart."""


@dataclass(frozen=True)
class Encounter:
    """How two hands interact; metres and degrees, each a range to draw from."""

    share: float
    overlap: tuple[float, float]
    """How far the boxes of both hands reach into each other sideways."""
    depth: tuple[float, float]
    """Half of the distance from the camera by which they differ."""
    height: tuple[float, float]
    """Half of the difference in height."""
    lean: tuple[float, float]
    """Outward lean of the fingers."""


ENCOUNTERS = {
    "beside": Encounter(0.25, (0.012, 0.026), (-0.01, 0.01), (-0.02, 0.02), (-32, -12)),
    "in_front": Encounter(0.25, (0.02, 0.035), (0.03, 0.045), (0.03, 0.05), (-30, -10)),
    "fingers_meet": Encounter(0.5, (0.012, 0.04), (0.0, 0.012), (-0.01, 0.01), (-45, -28)),
}
_MEETING = ("call", "four", "like", "ok", "palm", "peace", "rock", "stop", "stop_inverted", "three", "three2")
"""Gestures of interacting hands. Detectors lose narrow ones (fists, single fingers) when another hand is close."""
_REACH = ((0.0, 0.42), (0.42, 0.72), (-0.12, 0.32))
"""Outward, forward and upward reach of a raised hand from its shoulder in lengths of the arm."""
_REACH_DOWN = ((-0.1, 0.25), (0.45, 0.75), (-0.3, 0.1))
"""The same for a thumb that points down: far out, detectors take the hand for a part of the arm."""
_PARTNERS = {"two": [name for name in GESTURES if name != "mute"], "interacting": list(_MEETING)}
"""What the other hand may show; nobody puts two fingers to the lips."""


@dataclass(frozen=True)
class Plan:
    """The choreography before any geometry."""

    gestures: dict[str, str | None]
    """Gesture by side; None for a hand that hangs down."""
    lead: str
    """Side of the hand whose gesture names the picture."""
    encounter: str | None
    """Key of ``ENCOUNTERS`` when the hands interact."""

    @property
    def shown(self) -> list[str]:
        """Sides of the raised hands."""
        return [side for side in SIDES if self.gestures[side] is not None]


def plan_picture(seed: int, index: int, gesture: str | None = None) -> Plan:
    """Draw a plan; over every run of ``len(GESTURES)`` consecutive indices each gesture leads once."""
    if gesture is not None and gesture not in GESTURES:
        raise ConfigError(f"unknown gesture {gesture!r}", f"one of {', '.join(GESTURES)}")
    rng = random_stream(seed, "plan", index)
    gesture = gesture or leading_gesture(seed, index)
    scene = _draw_scene(gesture, rng)
    lead, other = rng.permutation(SIDES).tolist()
    second = gesture if rng.random() < 0.6 or scene == "one" else str(rng.choice(_PARTNERS[scene]))
    second = "palm" if second == "mute" else second
    shares = [encounter.share for encounter in ENCOUNTERS.values()]
    encounter = str(rng.choice(list(ENCOUNTERS), p=shares)) if scene == "interacting" else None
    return Plan({lead: gesture, other: None if scene == "one" else second}, lead, encounter)


def _draw_scene(gesture: str, rng: np.random.Generator) -> str:
    scene = str(rng.choice(list(SCENES), p=list(SCENES.values())))
    return "two" if scene == "interacting" and gesture not in _MEETING else scene


def leading_gesture(seed: int, index: int) -> str:
    """The gesture that names picture ``index``."""
    block, place = divmod(index, len(GESTURES))
    return list(GESTURES)[random_stream(seed, "gestures", block).permutation(len(GESTURES))[place]]


def hold(gesture: Gesture, side: str, rng: np.random.Generator) -> HandTarget:
    """Orientation of a raised hand (its wrist is still at the origin), facing the camera at -y."""
    out = OUTWARD[side]
    if gesture.facing in ("thumb_up", "thumb_down"):
        return _hold_by_thumb(gesture, side, rng)
    sway = (
        rotation(Z, rng.normal() * 13)
        @ rotation(Y, out * (rng.normal() * 10 + 6))
        @ rotation(X, gesture.pitch + rng.normal() * 8)
    )
    turn = {"palm": 0.0, "back": 180.0, "lips": -out * rng.uniform(45, 70)}[gesture.facing]
    palm = rotation(Z, turn) @ -Y
    elbow = np.array([out * rng.uniform(0.2, 0.7), 0.25, -1.0])
    if gesture.facing == "lips":
        sway = rotation(Y, out * rng.uniform(5, 25))
    return HandTarget(np.zeros(3), sway @ Z, sway @ palm, elbow)


def _hold_by_thumb(gesture: Gesture, side: str, rng: np.random.Generator) -> HandTarget:
    out, sign = OUTWARD[side], 1.0 if gesture.facing == "thumb_up" else -1.0
    forward = rng.uniform(0.25, 0.8) if sign > 0 else rng.uniform(0.0, 0.3)
    fingers = unit(np.array([-out * rng.uniform(0.45, 0.95), -forward, sign * rng.uniform(0.0, 0.3)]))
    thumb = np.array([out * 0.1, 0.0, sign])
    thumb = unit(thumb - np.dot(thumb, fingers) * fingers)
    palm = np.cross(fingers, thumb) * out
    sway = rotation(Y, rng.normal() * 10)
    elbow = np.array([out * rng.uniform(0.2, 0.7), 0.25, -1.0])
    if sign < 0:
        elbow = np.array([out, 0.3, rng.uniform(-0.5, 0.1)])
    return HandTarget(np.zeros(3), sway @ fingers, sway @ palm, elbow)


def raise_hand(
    target: HandTarget,
    facing: str,
    side: str,
    shoulder: np.ndarray,
    torso: np.ndarray,
    arm: float,
    rng: np.random.Generator,
) -> HandTarget:
    """Put a raised hand beside the head or the chest; ``torso`` (3, 3), ``arm`` length in metres."""
    outward, forward, height = _REACH_DOWN if facing == "thumb_down" else _REACH
    reach = np.array([OUTWARD[side] * rng.uniform(*outward), -rng.uniform(*forward), rng.uniform(*height)])
    return replace(target, wrist=shoulder + arm * torso @ reach, elbow=torso @ target.elbow)


def raise_to_lips(
    target: HandTarget, side: str, body: Body, joints: np.ndarray, head: np.ndarray, mouth: np.ndarray
) -> HandTarget:
    """Put the tip of the index finger before the mouth; ``head`` (3, 3), ``mouth`` (3,) world position."""
    letter = side[0].upper()
    rest_tip = body.tip_rest[side][1] - body.rest_joints[body.bone[f"wrist.{letter}"]]
    knuckle = joints[body.bone[f"finger2-1.{letter}"]] - joints[body.bone[f"wrist.{letter}"]]
    straight = knuckle + unit(knuckle) * (np.linalg.norm(rest_tip) - np.linalg.norm(knuckle))
    reach = hand_rotation(body, joints, side, target) @ straight
    tip = mouth + head @ np.array([0, -0.022, 0.012])
    return replace(target, wrist=tip - reach)


def let_hang(side: str, shoulder: np.ndarray, arm: float, rng: np.random.Generator) -> HandTarget:
    """A relaxed arm beside the body."""
    out = OUTWARD[side]
    reach = np.array([out * rng.uniform(0.05, 0.2), -rng.uniform(0.05, 0.25), -rng.uniform(0.9, 0.97)])
    palm, elbow = np.array([-out, 0.2, 0.0]), np.array([out * 0.4, 1.0, 0.0])
    return HandTarget(shoulder + arm * reach, np.array([0, -0.15, -1.0]), palm, elbow)


def bring_together(
    targets: dict[str, HandTarget],
    encounter: Encounter,
    skeleton: Skeleton,
    body: Body,
    view: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, HandTarget]:
    """First guess of two interacting hands before the chest; ``encounters.settle`` moves them to where they overlap."""
    torso = skeleton.rotations[body.bone["spine01"]]
    shoulders = [skeleton.joints[body.bone[f"upperarm01.{letter}"]] for letter in SIDE_LETTER.values()]
    place = np.array([rng.normal() * 0.03, -rng.uniform(0.24, 0.34), rng.uniform(-0.22, -0.04)])
    centre = np.mean(shoulders, 0) + torso @ place
    depth, height, lean = (rng.uniform(*span) for span in (encounter.depth, encounter.height, encounter.lean))
    placed = {}
    for side, sign in zip(rng.permutation(SIDES).tolist(), (1.0, -1.0), strict=True):
        out, target = OUTWARD[side], targets[side]
        tilt = rotation(Y, out * lean)
        offset = view @ np.array([out * 0.08, sign * depth, sign * height])
        elbow = torso @ np.array([out, 0.3, -0.8])
        placed[side] = HandTarget(centre + offset, tilt @ target.fingers, tilt @ target.palm, elbow)
    return placed

"""Bringing hands to places: two-bone arms, the posture of the torso and head, the hands' final rotations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .body import Body, Skeleton
from .geometry import SIDE_LETTER, X, Y, Z, frame, rotation, twist_degrees, unit

Rotations = dict[str, np.ndarray]
"""(3, 3) rotation by bone name, in rest-pose world axes."""


@dataclass(frozen=True)
class HandTarget:
    """Where a hand goes and how it is held, in world axes."""

    wrist: np.ndarray
    fingers: np.ndarray
    """Direction from the wrist to the middle knuckle."""
    palm: np.ndarray
    """Normal of the palm, out of the hand."""
    elbow: np.ndarray
    """Rough direction in which the elbow points."""


def posture(rng: np.random.Generator) -> Rotations:
    """A slight turn of the whole body, bend of the spine and tilt of the head."""
    yaw, pitch, roll = rng.normal(size=3) * (10, 5, 5)
    turns: Rotations = {"root": rotation(Z, rng.normal() * 10)}
    turns["spine03"] = rotation(Y, rng.normal() * 4) @ rotation(X, rng.normal() * 3)
    turns["spine01"] = rotation(Z, rng.normal() * 5)
    for bone, share in (("neck01", 0.3), ("neck03", 0.3), ("head", 0.4)):
        turns[bone] = rotation(Z, yaw * share) @ rotation(X, pitch * share) @ rotation(Y, roll * share)
    return turns


def arm_length(body: Body, joints: np.ndarray) -> float:
    """Shoulder to elbow to wrist in metres."""
    shoulder, elbow, wrist = (joints[body.bone[f"{n}.L"]] for n in ("upperarm01", "lowerarm01", "wrist"))
    return _length(elbow - shoulder) + _length(wrist - elbow)


def _length(v: np.ndarray) -> float:
    return float(np.linalg.norm(v))


def hand_rotation(body: Body, joints: np.ndarray, side: str, target: HandTarget) -> np.ndarray:
    """(3, 3) rotation that takes the rest hand to the target's orientation."""
    return frame(target.fingers, target.palm) @ frame(*body.hand_axes(joints, side)).T


def arm_rotations(body: Body, joints: np.ndarray, skeleton: Skeleton, side: str, target: HandTarget) -> Rotations:
    """Two-bone inverse kinematics; a wrist out of reach ends on the line to its target.

    Args:
        body: the body model.
        joints: (J, 3) rest joints of this person.
        skeleton: the pose so far (its shoulder must be final).
        side: "left" or "right".
        target: where the hand goes.
    """
    letter = SIDE_LETTER[side]
    shoulder, elbow, wrist = (joints[body.bone[f"{n}.{letter}"]] for n in ("upperarm01", "lowerarm01", "wrist"))
    start = skeleton.joints[body.bone[f"upperarm01.{letter}"]]
    upper, lower = _bend(start, target, _length(elbow - shoulder), _length(wrist - elbow))
    hinge, rest_hinge = np.cross(upper, lower), np.cross(elbow - shoulder, wrist - elbow)
    upper_turn = frame(upper, hinge) @ frame(elbow - shoulder, rest_hinge).T
    lower_turn = frame(lower, hinge) @ frame(wrist - elbow, rest_hinge).T
    parent = skeleton.rotations[body.parents[body.bone[f"upperarm01.{letter}"]]]
    hand_turn = hand_rotation(body, joints, side, target)
    turns = _spread_twist(upper_turn, lower_turn, hand_turn, wrist - elbow)
    return {f"upperarm01.{letter}": parent.T @ upper_turn} | {f"{n}.{letter}": turn for n, turn in turns.items()}


def reach(body: Body, joints: np.ndarray, turns: Rotations, targets: dict[str, HandTarget]) -> Skeleton:
    """The skeleton after both arms have gone to their targets; ``turns`` holds every other rotation."""
    torso = body.skeleton(joints, turns)
    arms: Rotations = {}
    for side, target in targets.items():
        arms |= arm_rotations(body, joints, torso, side, target)
    return body.skeleton(joints, turns | arms)


def _bend(start: np.ndarray, target: HandTarget, upper: float, lower: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions of upper arm and fore-arm."""
    reach = target.wrist - start
    distance = float(np.clip(np.linalg.norm(reach), abs(upper - lower) + 0.02, (upper + lower) * 0.985))
    towards = unit(reach)
    cosine = (upper**2 + distance**2 - lower**2) / (2 * upper * distance)
    angle = math.acos(np.clip(cosine, -1, 1))
    pole = unit(target.elbow - np.dot(target.elbow, towards) * towards)
    direction = math.cos(angle) * towards + math.sin(angle) * pole
    return direction, unit(distance * towards - upper * direction)


def _spread_twist(upper: np.ndarray, lower: np.ndarray, hand: np.ndarray, axis: np.ndarray) -> Rotations:
    """The fore-arm's twist shared 10 / 50 / 40 % between its two bones and the wrist, as skin and bones do."""
    twist = twist_degrees(lower.T @ hand, axis)
    return {
        "lowerarm01": upper.T @ lower @ rotation(axis, twist * 0.1),
        "lowerarm02": rotation(axis, twist * 0.5),
        "wrist": (lower @ rotation(axis, twist * 0.6)).T @ hand,
    }

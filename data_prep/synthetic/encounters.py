"""Two interacting hands: moved until their boxes overlap as the camera sees them and no finger is inside the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.distance import cdist

from .body import Body, Skeleton
from .geometry import OUTWARD, SIDES
from .gestures import mediapipe_points
from .posing import HandTarget, Rotations, reach
from .staging import Encounter

CLEARANCE = 0.021
"""Bones of two hands stay this far apart, metres."""
_STEPS = 16
_TOLERANCE = 0.004


def settle(
    body: Body,
    joints: np.ndarray,
    turns: Rotations,
    targets: dict[str, HandTarget],
    encounter: Encounter,
    view: np.ndarray,
    rng: np.random.Generator,
) -> Skeleton:
    """The skeleton with both hands where they interact as asked.

    Args:
        body: the body model.
        joints: (J, 3) rest joints of this person.
        turns: rotations of everything but the arms.
        targets: first guess of both hands.
        encounter: how the hands meet.
        view: (3, 3) from ``camera.draw_view``; overlap is measured as the camera sees it.
        rng: source of the overlap.
    """
    wanted = rng.uniform(*encounter.overlap)
    for _ in range(_STEPS):
        skeleton = reach(body, joints, turns, targets)
        hands = {side: mediapipe_points(body.hand_joints(skeleton, side)) @ view for side in SIDES}
        move = _move_of_left_hand(hands, wanted)
        if np.abs(move).max() < _TOLERANCE:
            break
        targets = {
            side: replace(target, wrist=target.wrist + OUTWARD[side] * view @ move) for side, target in targets.items()
        }
    return skeleton


def _move_of_left_hand(hands: dict[str, np.ndarray], overlap: float) -> np.ndarray:
    """(3,) half of the correction in the camera's axes; the right hand moves the other way."""
    apart_x, apart_z = _gap(hands, 0) + overlap, max(_gap(hands, 2) + 0.02, 0.0)
    towards = np.sign(hands["left"].mean(0) - hands["right"].mean(0))
    too_close = CLEARANCE - cdist(_along_bones(hands["left"]), _along_bones(hands["right"])).min()
    depth = 0.6 * max(too_close, 0.0) * (1 if towards[1] >= 0 else -1)
    return np.array([-apart_x / 2, depth, -towards[2] * apart_z / 2])


def _gap(hands: dict[str, np.ndarray], axis: int) -> float:
    """Distance of the boxes of both hands along an axis, metres; negative where they overlap."""
    left, right = hands["left"][:, axis], hands["right"][:, axis]
    return float(left.min() - right.max() if axis == 0 else max(left.min() - right.max(), right.min() - left.max()))


def _along_bones(points: np.ndarray) -> np.ndarray:
    """(80, 3) points along the fingers and through the palm of a hand."""
    parents = [0 if k % 4 == 1 else k - 1 for k in range(1, 21)]
    shares = np.array([0.25, 0.5, 0.75, 1.0])[:, None, None]
    return (points[parents] + shares * (points[1:] - points[parents])).reshape(-1, 3)

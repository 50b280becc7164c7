"""How much of freshly rendered people does MediaPipe Holistic find, and how far from the true points?

    python -m data_prep.synthetic.measure count=200 seed=1

Exits with 1 when it finds fewer than 98 % of the bodies or 95 % of the raised hands. The true hand points follow
MediaPipe's own convention (``gestures.mediapipe_points``), so their distance says how well a hand is seen, not how
well MediaPipe knows anatomy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from h2d.annotators.pose import HolisticPose
from h2d.errors import ConfigError, H2DError
from h2d.skeleton import BODY, FACE, HAND_SLICES

from .rendering import Rendered, render_person

BODY_GOAL, HAND_GOAL = 0.98, 0.95
IN_PLACE = 0.15
"""A found hand is in place when its mean error is below this share of the longer side of its true box."""
_OPTIONS = {"count": 200, "seed": 1, "first": 0, "size": 512, "supersampling": 2}


@dataclass(frozen=True)
class HandResult:
    """One raised hand."""

    gesture: str
    scene: str
    """ "one hand", "two hands" or the kind of encounter."""
    error: float
    """Mean distance in shares of the longer side of the true box; nan when the hand was not found."""


@dataclass(frozen=True)
class PictureResult:
    """One picture."""

    body: bool
    face: bool
    hands: tuple[HandResult, ...]
    body_error: float
    """Mean distance of the visible body points in shares of the image; nan when there is no body."""
    extra_hands: int
    """Hands that were found on the side of an arm that hangs out of the frame."""
    render_seconds: float


def measure(count: int, seed: int, first: int, size: int, supersampling: int) -> list[PictureResult]:
    """Render pictures ``first .. first + count - 1`` of data set ``seed`` and look for the people."""
    results = []
    with HolisticPose() as annotator:
        for index in range(first, first + count):
            start = time.process_time()
            rendered = render_person(seed, index, size, supersampling=supersampling)
            seconds = time.process_time() - start
            results.append(compare(rendered, annotator.detect(rendered.image).pose, seconds))
    return results


def compare(rendered: Rendered, found: np.ndarray, seconds: float) -> PictureResult:
    """Judge the (133, 3) keypoints that an annotator ``found`` in a rendered picture."""
    true = rendered.pose
    raised = [side for side, name in rendered.gestures.items() if name]
    scene = rendered.encounter or ("two hands" if len(raised) == 2 else "one hand")
    hands = []
    for side in raised:
        a, b = true[HAND_SLICES[side]], found[HAND_SLICES[side]]
        hands.append(HandResult(str(rendered.gestures[side]), scene, _error(a, b, a[:, 2] > 0, _side(a))))
    empty = [side for side, part in HAND_SLICES.items() if not (true[part, 2] > 0).any()]
    return PictureResult(
        body=bool((found[BODY, 2] > 0).any()),
        face=bool((found[FACE, 2] > 0).any()),
        hands=tuple(hands),
        body_error=_error(true[BODY], found[BODY], true[BODY, 2] == 2, len(rendered.image)),
        extra_hands=sum(bool((found[HAND_SLICES[side], 2] > 0).any()) for side in empty),
        render_seconds=seconds,
    )


def _side(points: np.ndarray) -> float:
    inside = points[points[:, 2] > 0, :2]
    return float(np.ptp(inside, axis=0).max()) if len(inside) else 1.0


def _error(true: np.ndarray, found: np.ndarray, counted: np.ndarray, unit: float) -> float:
    both = counted & (found[:, 2] > 0)
    return float(np.linalg.norm(true[both, :2] - found[both, :2], axis=1).mean() / unit) if both.any() else float("nan")


def report(results: list[PictureResult]) -> tuple[list[str], bool]:
    """Lines to print and whether both goals are met."""
    hands = [hand for result in results for hand in result.hands]
    body, hand_rate = np.mean([result.body for result in results]), _found(hands)
    errors = np.array([hand.error for hand in hands])
    lines = [
        f"{len(results)} people, {len(hands)} raised hands",
        f"body found        {body:7.1%}   (goal {BODY_GOAL:.0%})",
        f"raised hand found {hand_rate:7.1%}   (goal {HAND_GOAL:.0%})",
        f"  and in place    {np.mean(errors < IN_PLACE):7.1%}   (error below {IN_PLACE:.0%} of the hand's box)",
        f"face found        {np.mean([result.face for result in results]):7.1%}",
        f"hand error        {np.nanmean(errors):7.1%} of the hand's box, median {np.nanmedian(errors):.1%}",
        f"body error        {np.nanmean([result.body_error for result in results]):7.1%} of the image",
        f"hands found where none is in the frame: {sum(result.extra_hands for result in results)}",
        f"rendering: {np.median([result.render_seconds for result in results]):.3f} s CPU per picture (median)",
    ]
    lines += _table("scene", {hand.scene for hand in hands}, hands)
    lines += _table("gesture", {hand.gesture for hand in hands}, hands)
    return lines, bool(body >= BODY_GOAL and hand_rate >= HAND_GOAL)


def _found(hands: list[HandResult]) -> float:
    return float(np.mean([not np.isnan(hand.error) for hand in hands]))


def _table(field: str, names: Iterable[str], hands: list[HandResult]) -> list[str]:
    lines = [f"{field:16s} hands   found  in place  median error"]
    for name in sorted(names):
        chosen = [hand for hand in hands if getattr(hand, field) == name]
        errors = np.array([hand.error for hand in chosen])
        middle = f"{np.nanmedian(errors):10.1%}" if np.isfinite(errors).any() else f"{'-':>10s}"
        lines.append(f"{name:16s} {len(chosen):5d} {_found(chosen):7.0%} {np.mean(errors < IN_PLACE):9.0%} {middle}")
    return lines


def parse(arguments: list[str]) -> dict[str, int]:
    """``key=value`` arguments over the defaults."""
    options = dict(_OPTIONS)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in options or not value.isdigit():
            usage = " ".join(f"{name}={default}" for name, default in _OPTIONS.items())
            raise ConfigError(f"cannot use {argument!r}", f"python -m data_prep.synthetic.measure {usage}")
        options[key] = int(value)
    return options


def main() -> int:
    """Exit code: 0 both goals met, 1 not, 2 wrong arguments."""
    try:
        options = parse(sys.argv[1:])
    except H2DError as error:
        print(f"error: {error.message}\n  hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    lines, passed = report(measure(**options))
    print("\n".join(lines))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())

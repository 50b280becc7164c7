from __future__ import annotations

import numpy as np
import pytest

from data_prep.synthetic.measure import HandResult, PictureResult, compare, measure, parse, report
from data_prep.synthetic.rendering import Rendered
from h2d.errors import ConfigError
from h2d.skeleton import HAND_SLICES


def picture(body: bool = True, error: float = 0.05) -> PictureResult:
    return PictureResult(body, True, (HandResult("palm", "one hand", error),), 0.02, 0, 0.2)


def test_the_exact_pose_is_found_without_error(people: list[Rendered]) -> None:
    result = compare(people[0], people[0].pose, 0.1)
    assert result.body
    assert result.body_error == 0
    assert {hand.error for hand in result.hands} == {0}


def test_errors_are_shares_of_the_hands_box(people: list[Rendered]) -> None:
    person = next(person for person in people if person.gestures["right"])
    found, part = person.pose.copy(), HAND_SLICES["right"]
    side = np.ptp(found[part, :2], axis=0).max()
    found[part, 0] += 0.1 * side
    result = compare(person, found, 0.1)
    assert result.hands[0].error == pytest.approx(0.1, rel=1e-4)
    found[part] = 0
    assert np.isnan(compare(person, found, 0.1).hands[0].error)


def test_the_goals_decide() -> None:
    assert report([picture()] * 50)[1]
    assert not report([picture()] * 90 + [picture(error=float("nan"))] * 10)[1]
    assert not report([picture()] * 90 + [picture(body=False)] * 10)[1]


def test_the_report_names_scene_and_gesture() -> None:
    lines, _ = report([picture(), picture(error=float("nan"))])
    assert any(line.split() == ["palm", "2", "50%", "50%", "5.0%"] for line in lines)
    assert any("raised hand found   50.0%" in line for line in lines)


def test_arguments() -> None:
    assert parse(["count=3", "seed=9"])["count"] == 3
    for wrong in ("count", "count=x", "people=3"):
        with pytest.raises(ConfigError, match=wrong):
            parse([wrong])


def test_mediapipe_finds_a_few_people() -> None:
    results = measure(count=6, seed=1, first=0, size=512, supersampling=1)
    assert all(result.body for result in results)
    hands = [hand.error for result in results for hand in result.hands]
    assert np.mean(np.isfinite(hands)) > 0.7
    assert np.nanmedian(hands) < 0.1

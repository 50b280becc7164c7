from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from data_prep.synthetic.gestures import GESTURES
from data_prep.synthetic.person import sample_person
from data_prep.synthetic.staging import ENCOUNTERS, plan_picture
from h2d.errors import ConfigError
from h2d.skeleton import HAND_SLICES


def test_every_gesture_leads_equally_often() -> None:
    leads = Counter(plan.gestures[plan.lead] for plan in (plan_picture(0, k) for k in range(3 * len(GESTURES))))
    assert leads == dict.fromkeys(GESTURES, 3)


def test_one_hand_two_hands_and_meeting_hands_have_their_shares() -> None:
    plans = [plan_picture(1, k) for k in range(3000)]
    assert np.mean([len(plan.shown) == 1 for plan in plans]) == pytest.approx(0.58, abs=0.03)
    assert np.mean([plan.encounter is not None for plan in plans]) == pytest.approx(0.15, abs=0.02)
    two = [plan for plan in plans if len(plan.shown) == 2]
    assert 0.5 < np.mean([plan.gestures["left"] == plan.gestures["right"] for plan in two]) < 0.75
    assert 0.45 < np.mean([plan.lead == "left" for plan in plans]) < 0.55


def test_a_plan_depends_on_seed_and_index_only() -> None:
    assert plan_picture(3, 17) == plan_picture(3, 17)
    assert len({str(plan_picture(seed, 17)) for seed in range(10)}) > 3


def test_an_asked_gesture_leads() -> None:
    plan = plan_picture(0, 0, "rock")
    assert plan.gestures[plan.lead] == "rock"


def test_an_unknown_gesture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="wave") as caught:
        plan_picture(0, 0, "wave")
    assert "palm" in caught.value.hint


def test_boxes_of_meeting_hands_intersect() -> None:
    indices = [k for k in range(400) if plan_picture(5, k).encounter][:40]
    apart = 0
    for k in indices:
        person = sample_person(5, k)
        low, high = [], []
        for side in HAND_SLICES:
            points = person.camera.project(person.hand_points[side], 512)[:, :2]
            low.append(points.min(0))
            high.append(points.max(0))
        apart += bool((np.maximum(*low) >= np.minimum(*high)).any())
    assert len(indices) == 40
    assert apart <= 1


def test_no_finger_of_one_hand_is_inside_the_other() -> None:
    for k in [k for k in range(200) if plan_picture(6, k).encounter][:15]:
        points = sample_person(6, k).hand_points
        distance = np.linalg.norm(points["left"][:, None] - points["right"], axis=2)
        assert distance.min() > 0.012


def test_all_kinds_of_encounters_occur() -> None:
    assert {plan_picture(0, k).encounter for k in range(300)} == {None, *ENCOUNTERS}

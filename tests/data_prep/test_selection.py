"""How many of each gesture, against the numbers of the published data set and a hand-made case."""

from __future__ import annotations

from collections import Counter

import pytest

from data_prep.selection import take
from data_prep.sources import Row
from h2d.data.allocation import allocate

# Images of each gesture in HaGRID v1 train_val (509,323 in all).
HAGRID = {
    "call": 28193, "dislike": 28537, "fist": 27764, "four": 28880, "like": 27721, "mute": 28971, "ok": 27999,
    "one": 28444, "palm": 28326, "peace": 28303, "peace_inverted": 27864, "rock": 27782, "stop": 27963,
    "stop_inverted": 28857, "three": 28015, "three2": 27789, "two_up": 29679, "two_up_inverted": 28236,
}  # fmt: skip


def test_the_papers_76800_training_images() -> None:
    quota = allocate(76_800, HAGRID)
    assert sum(HAGRID.values()) == 509_323
    assert sum(quota.values()) == 76_800
    assert (quota["call"], quota["two_up"], quota["like"]) == (4251, 4475, 4180)
    assert all(abs(quota[name] - 76_800 * count / 509_323) < 1 for name, count in HAGRID.items())


def test_the_largest_remainders_get_what_is_left_and_ties_go_by_name() -> None:
    assert allocate(10, {"a": 6, "b": 6, "c": 2, "d": 0}) == {"a": 4, "b": 4, "c": 2}  # 4.29, 4.29, 1.43
    assert allocate(3, {"b": 1, "a": 1}) == {"b": 1, "a": 2}
    assert allocate(0, {"a": 1}) == {"a": 0}


@pytest.fixture
def rows() -> list[Row]:
    gestures = ["fist"] * 6 + ["palm"] * 3 + ["ok"]
    return [Row(f"x/{number}", f"{number}.jpg", gesture=gesture) for number, gesture in enumerate(gestures)]


def test_rows_are_taken_in_order_with_the_gestures_of_the_whole(rows: list[Row]) -> None:
    taken = take(rows, 5, {"fist": 600, "palm": 300, "ok": 100})
    assert Counter(row.gesture for row in taken) == {"fist": 3, "palm": 1, "ok": 1}  # 3, 1.5, 0.5: ok comes before palm
    assert [row.key for row in taken] == ["x/0", "x/1", "x/2", "x/6", "x/9"]


def test_a_gesture_that_is_short_is_not_made_up_for(rows: list[Row]) -> None:
    taken = take(rows, 10, {"fist": 1, "palm": 1})
    assert Counter(row.gesture for row in taken) == {"fist": 5, "palm": 3}


def test_without_gestures_the_first_are_taken(rows: list[Row]) -> None:
    assert take(rows, 3, None) == rows[:3]
    assert take(rows, None, {"fist": 1}) == rows

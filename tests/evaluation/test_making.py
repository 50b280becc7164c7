from __future__ import annotations

from itertools import pairwise

from h2d.evaluation.making import spread


def test_processes_begin_far_from_each_other() -> None:
    numbers = list(range(100))
    orders = [spread(numbers, place) for place in range(8)]
    assert orders[0] == numbers
    assert all(sorted(order) == numbers for order in orders)
    starts = sorted(order[0] for order in orders)
    assert min(later - earlier for earlier, later in pairwise(starts)) >= 5
    assert spread([], 3) == []

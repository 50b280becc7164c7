"""Which of the usable images are taken, so that a data set has the size and the gestures that were asked for.

The paper keeps HaGRID's distribution of gestures in its 76,800 training and 12,000 test images (Sections IV-A, IV-C).
Images are taken after they have been judged, because MediaPipe misses some gestures more often than others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from data_prep.sources import Row
from h2d.data.allocation import allocate


def take(rows: Sequence[Row], total: int | None, gestures: Mapping[str, int] | None) -> list[Row]:
    """The first ``total`` rows, with the gestures in proportion to ``gestures`` when these are given.

    A gesture of which there are too few rows is not made up for by others: the distribution comes before the size.

    Args:
        rows: usable images in the order of the index.
        total: how many to take; None takes all.
        gestures: number of images of each gesture in the whole data set.
    """
    if total is None:
        return list(rows)
    if not gestures:
        return list(rows[:total])
    left = Counter(allocate(total, gestures))
    taken = []
    for row in rows:
        if left[row.gesture] > 0:
            left[row.gesture] -= 1
            taken.append(row)
    return taken

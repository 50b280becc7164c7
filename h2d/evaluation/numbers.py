"""From the rows and pictures of an evaluation to its numbers."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

from h2d.data.dataset import ShardDataset
from h2d.data.schema import decode_sample
from h2d.data.square import square_sample
from h2d.evaluation.measurements import Evaluation, Measurement, add_rows
from h2d.evaluation.rows import Row, Store
from h2d.evaluation.selection import Selection
from h2d.experiment import MetricsConfig
from h2d.metrics.image_suite import ImageNetworks
from h2d.metrics.suite import Suite

IMAGES_AT_A_TIME = 16
"""Images that a network judges together: always the same ones, so that the numbers are the same to the last bit."""


def measure_store(
    store: Store,
    data: ShardDataset,
    selection: Selection,
    protocol: dict[str, Any],
    metrics: MetricsConfig,
    networks: ImageNetworks,
) -> Evaluation:
    """The numbers of an evaluation whose rows are all there.

    Args:
        store: of the evaluation.
        data: the split.
        selection: of its samples.
        protocol: how the pictures were made, with their ``image_size``.
        metrics: what is compared, and how.
        networks: judge images.

    Raises:
        DataError: a file is not what was written.
    """
    suite, size = Suite(metrics=metrics, networks=networks), int(protocol["image_size"])
    rows = read_rows(store, selection)
    detected = any(row.found is not None for row in rows)
    add_rows(suite, rows, size, detected)
    for first in range(0, len(rows), IMAGES_AT_A_TIME):
        _add_images(suite, store, data, rows[first : first + IMAGES_AT_A_TIME], size)
    remarks = Counter(kind for row in rows for kind in row.kinds)
    absent = "no sample has what it is measured on" if detected else "evaluation.detector=none"
    return Measurement(suite, protocol | {"remarks": dict(sorted(remarks.items()))}, [], otherwise=absent).compute()


def read_rows(store: Store, selection: Selection) -> list[Row]:
    """All rows in order."""
    return list(chain.from_iterable(store.read(number, batch) for number, batch in enumerate(selection.batches)))


def _add_images(suite: Suite, store: Store, data: ShardDataset, rows: list[Row], size: int) -> None:
    samples = [square_sample(decode_sample(data.read(row.number)), size) for row in rows]
    numbers = [row.number for row in rows]
    made, real = [store.picture(row) for row in rows], [sample.image for sample in samples]
    suite.add_borders(made, real, [sample.hands for sample in samples])
    if suite.images is None or not suite.images.wants_images:
        return
    asked = [sample.pose for sample in samples]
    found = [pose if row.found is None else row.found for row, pose in zip(rows, asked, strict=True)]
    suite.images.add(numbers, made, real, [sample.caption for sample in samples])
    suite.images.add_foregrounds(numbers, made, found, asked, real, [row.truth for row in rows])

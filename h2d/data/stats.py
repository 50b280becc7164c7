"""What is in a folder of shards, in numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from h2d.data.shards import iter_samples, read_manifests
from h2d.skeleton import HAND_LABELS

SIZE = 512
"""Mask areas are counted at this length of the shorter side, the training resolution."""


def stats(folder: Path | str) -> dict[str, Any]:
    """Counts and distributions; plain numbers and strings, ready for JSON.

    Keys: ``counts`` and ``subjects`` by split; ``sources``, ``gestures``, ``hands`` (right, left, both), ``sizes``
    (the most frequent), ``made_by`` by label, each with numbers of samples; ``mask_pixels`` of the hands at 512 px,
    ``caption_words`` and ``keypoints`` (labelled ones), each as ``[smallest, median, largest]``.

    Raises:
        DataError: the folder or one of its samples is damaged.
    """
    manifest = read_manifests(folder)
    totals: dict[str, Counter[str]] = {name: Counter() for name in ("sources", "gestures", "hands", "sizes")}
    made_by: dict[str, Counter[str]] = {}
    numbers: dict[str, list[float]] = {"mask_pixels": [], "caption_words": [], "keypoints": []}
    subjects: dict[str, set[str]] = {split: set() for split in manifest.counts}
    for split in manifest.counts:
        for sample in iter_samples(folder, split):
            sides = [side for side, label in HAND_LABELS.items() if (sample.hands == label).any()]
            height, width = sample.hands.shape
            totals["sources"][sample.meta["source"]] += 1
            totals["gestures"][sample.meta["gesture"] or "unknown"] += 1
            totals["hands"]["both" if len(sides) == 2 else "".join(sides) or "none"] += 1
            totals["sizes"][f"{width} x {height}"] += 1
            for label, who in sample.meta["made_by"].items():
                made_by.setdefault(label, Counter())[who] += 1
            numbers["mask_pixels"].append((sample.hands > 0).sum() * (SIZE / min(width, height)) ** 2)
            numbers["caption_words"].append(len(sample.caption.split()))
            numbers["keypoints"].append((sample.pose[:, 2] > 0).sum())
            subjects[split].add(sample.meta["subject"])
    return {
        "counts": manifest.counts,
        "subjects": {split: len(people - {""}) for split, people in subjects.items()},
        **{name: dict(counter.most_common(20)) for name, counter in totals.items()},
        "made_by": {label: dict(counter) for label, counter in made_by.items()},
        **{name: _spread(values) for name, values in numbers.items()},
    }


def _spread(values: list[float]) -> list[int]:
    return [round(float(f(values))) for f in (np.min, np.median, np.max)] if values else []

"""How well hands are segmented: ``python -m data_prep.measure_masks OUT [masks=sam ...]`` on prepared synthetic people.

``OUT`` is the ``out`` of a synthetic data set whose ``keypoints`` stage is done. MediaPipe's keypoints go in, as they
would for a photograph; the renderer's exact masks are the truth.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.chunks import chunk_path
from data_prep.job import Job
from data_prep.keys import parse
from data_prep.sources import Row
from data_prep.stage import read_members
from h2d.annotators.hand_masks import hands_of
from h2d.annotators.segment import GrabCutSegmenter, SamSegmenter, Segmenter
from h2d.data.schema import decode_npy
from h2d.errors import DataError
from h2d.images import load_image
from h2d.skeleton import HAND_LABELS
from h2d.weights import sam_checkpoint


def measure(job: Job, segmenter: Segmenter) -> tuple[list[float], int]:
    """Intersection over union of every hand, and the number of images whose masks the segmenter itself refused."""
    overlaps: list[float] = []
    refused = 0
    for number, row, pose in _poses(job):
        exact = job.source.labels(job.root, row).hands
        if exact is None:
            raise DataError(f"{row.key} (chunk {number}) has no exact mask", "measure on synthetic people")
        try:
            hands = segmenter.segment(load_image(job.root / row.image), pose).hands
        except DataError:
            refused += 1
            continue
        for side in hands_of(pose):
            found, truth = hands == HAND_LABELS[side], exact == HAND_LABELS[side]
            overlaps.append(float((found & truth).sum() / max(1, (found | truth).sum())))
    return overlaps, refused


def _poses(job: Job) -> Iterator[tuple[int, Row, np.ndarray]]:
    rows = {row.key: row for row in job.rows()}
    number = 0
    while chunk_path(job.folder("keypoints"), number).is_file():
        for key, members in read_members(job, ("keypoints",), number).items():
            yield number, rows[key], decode_npy(members["pose.npy"])
        number += 1


def main(out: str, *pairs: str) -> None:
    """Print the figures of the fallback, or of SAM with ``masks=sam`` and what else the masks stage is told."""
    settings = parse("synthetic", [f"out={out}", *pairs])
    segmenter: Segmenter = GrabCutSegmenter()
    if settings.masks == "sam":
        checkpoint = sam_checkpoint(settings.sam_checkpoint, settings.sam_model)
        segmenter = SamSegmenter.load(checkpoint, settings.sam_model, settings.device, settings.sam_batch)
    overlaps, refused = measure(Job("synthetic", settings, Path(out) / "raw", Path(out)), segmenter)
    mean, median, low = np.mean(overlaps), np.median(overlaps), np.percentile(overlaps, 10)
    print(f"{len(overlaps)} hands: IoU mean {mean:.3f}, median {median:.3f}, 10th percentile {low:.3f}")
    print(f"{refused} images refused")


if __name__ == "__main__":
    main(*sys.argv[1:])

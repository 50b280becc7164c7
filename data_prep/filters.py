"""Stage ``filter``: which samples are good enough to train on. Decided from scores, so running it again is cheap."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from data_prep.chunks import Members
from data_prep.job import Job
from data_prep.pictures import encode_json, found
from data_prep.worker import ImageWorker, Item, Stage
from h2d.data.schema import decode_mask
from h2d.errors import DataError

TRAINING_SIZE = 512


class Filter(ImageWorker):
    """Keeps images of one person with a hand mask that is large enough (Section IV-A)."""

    def __init__(self, job: Job) -> None:
        self.settings = job.settings

    def prepare(self, item: Item) -> Members:
        """``filter.json`` with the numbers that were judged."""
        facts = found(item).facts
        if self.settings.max_people and facts["faces"] > self.settings.max_people:
            raise DataError(f"too many people: {facts['faces']} faces")
        pixels = mask_pixels(decode_mask(item.members["hands.png"]))
        if pixels < self.settings.min_mask_pixels:
            raise DataError(f"hand mask too small: {pixels} of {self.settings.min_mask_pixels} px at {TRAINING_SIZE}")
        if not item.members["txt"].strip():
            raise DataError("no caption")
        masks = json.loads(item.members["masks.json"])
        if masks["size"] != facts["size"]:
            raise DataError(f"hand mask of another size: {masks['size']}, not {facts['size']}")
        return {"filter.json": encode_json({"mask_pixels": pixels})}


def mask_pixels(hands: np.ndarray) -> int:
    """Hand pixels of a mask ``(H, W)`` once its shorter side is 512, the resolution at which the paper counts."""
    scale = TRAINING_SIZE / min(hands.shape)
    return round(int((hands > 0).sum()) * scale * scale)


def depends(job: Job) -> dict[str, Any]:
    """Settings that the decision depends on."""
    return {"max_people": job.settings.max_people, "min_mask_pixels": job.settings.min_mask_pixels}


STAGE = Stage("filter", ("keypoints", "masks", "captions"), Filter, depends, pays_from=2000)

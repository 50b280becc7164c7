"""Stage ``masks``: which pixels are the right hand, the left hand and the person (Section IV-A)."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_prep.chunks import Members
from data_prep.job import Job
from data_prep.pictures import encode_json, found, read_bytes, read_image
from data_prep.stage import Item, Stage, Worker
from h2d.annotators.hand_masks import Segmentation, hands_of, judge
from h2d.annotators.segment import GrabCutSegmenter, SamSegmenter, Segmenter
from h2d.errors import DataError
from h2d.files import sha256_of
from h2d.images import encode_png
from h2d.skeleton import HAND_LABELS


class Masks(Worker):
    """Takes the data set's own masks, or makes them from the keypoints."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.segmenter = _segmenter(job)

    def prepare(self, item: Item) -> Members:
        """``hands.png``, ``person.png`` where known, and ``masks.json``."""
        pose = found(item).pose
        if self.segmenter is not None:
            result, made_by = self.segmenter.segment(read_image(self.job, item), pose), self.segmenter.made_by
        else:
            read_bytes(self.job, item)
            result, made_by = self._exact(item, pose), "exact"
        members = {"hands.png": encode_png(result.hands)}
        if result.person is not None:
            members["person.png"] = encode_png(result.person)
        facts = {"made_by": made_by, "scores": _rounded(result.scores), "size": list(result.hands.shape[::-1])}
        return members | {"masks.json": encode_json(facts)}

    def _exact(self, item: Item, pose: np.ndarray) -> Segmentation:
        labels = self.job.source.labels(self.job.root, item.row)
        if labels.hands is None:
            raise DataError("the data set brings no hand mask for it")
        if list(labels.hands.shape[::-1]) != found(item).facts["size"]:
            raise DataError("exact labels: the mask has another size than the picture")
        unseen = [label for side, label in HAND_LABELS.items() if side not in hands_of(pose)]
        hands = np.where(np.isin(labels.hands, unseen), 0, labels.hands).astype(np.uint8)
        return Segmentation(hands, labels.person, judge(hands, pose))


def _segmenter(job: Job) -> Segmenter | None:
    checkpoint = job.settings.sam_checkpoint
    if job.masks == "sam" and checkpoint is not None:
        return SamSegmenter(checkpoint, job.settings.sam_model, job.settings.device)
    return GrabCutSegmenter() if job.masks == "grabcut" else None


def _rounded(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {side: {name: round(value, 4) for name, value in row.items()} for side, row in scores.items()}


def depends(job: Job) -> dict[str, Any]:
    """Settings that the masks depend on."""
    checkpoint = job.settings.sam_checkpoint
    weights = sha256_of(checkpoint)[:16] if job.masks == "sam" and checkpoint is not None else None
    return {"masks": job.masks, "sam_weights": weights}


def one_model(job: Job) -> bool:
    """SAM is loaded once: on a processor it uses all cores, on a device all memory."""
    return job.masks == "sam"


STAGE = Stage("masks", ("keypoints",), Masks, depends, one_model)

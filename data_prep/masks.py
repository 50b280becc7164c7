"""Stage ``masks``: which pixels are the right hand, the left hand and the person (Section IV-A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.batches import BatchWorker
from data_prep.chunks import Members
from data_prep.job import Job
from data_prep.pictures import encode_json, found, read_bytes, read_image
from data_prep.worker import ImageWorker, Item, Stage, Worker
from h2d.annotators.hand_masks import Segmentation, hands_of, judge
from h2d.annotators.prompts import Prompt
from h2d.annotators.sam import Answer
from h2d.annotators.segment import GrabCutSegmenter, SamSegmenter
from h2d.errors import DataError
from h2d.files import sha256_of
from h2d.images import encode_png
from h2d.skeleton import HAND_LABELS
from h2d.weights import sam_checkpoint

SAM_GROUP = 4
"""Images that SAM is asked about at once, in batches of SAM: with one or two hands each, they fill several."""


class ExactMasks(ImageWorker):
    """Takes the data set's own masks."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def prepare(self, item: Item) -> Members:
        """``hands.png``, ``person.png`` where known, and ``masks.json``."""
        pose = found(item).pose
        read_bytes(self.job, item)
        labels = self.job.source.labels(self.job.root, item.row)
        if labels.hands is None:
            raise DataError("the data set brings no hand mask for it")
        if list(labels.hands.shape[::-1]) != found(item).facts["size"]:
            raise DataError("exact labels: the mask has another size than the picture")
        unseen = [label for side, label in HAND_LABELS.items() if side not in hands_of(pose)]
        hands = np.where(np.isin(labels.hands, unseen), 0, labels.hands).astype(np.uint8)
        return _members(Segmentation(hands, labels.person, judge(hands, pose)), "exact")


class GrabCutMasks(ImageWorker):
    """Makes masks from the keypoints without downloaded weights."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.segmenter = GrabCutSegmenter()

    def prepare(self, item: Item) -> Members:
        """``hands.png``, ``person.png`` and ``masks.json``."""
        result = self.segmenter.segment(read_image(self.job, item), found(item).pose)
        return _members(result, self.segmenter.made_by)


@dataclass(frozen=True)
class Asked:
    """An image, its pose ``(133, 3)``, and what SAM is asked about it."""

    image: np.ndarray
    pose: np.ndarray
    prompts: dict[str, Prompt]


class SamMasks(BatchWorker):
    """Makes masks from the keypoints with SAM, several images at once."""

    def __init__(self, job: Job) -> None:
        settings = job.settings
        super().__init__(SAM_GROUP * settings.sam_batch, settings.workers)
        self.job = job
        self.segmenter = SamSegmenter.load(_checkpoint(job), settings.sam_model, settings.device, settings.sam_batch)

    def read(self, item: Item) -> Asked:
        """The image and what SAM is asked about it."""
        image, pose = read_image(self.job, item), found(item).pose
        return Asked(image, pose, self.segmenter.ask(image, pose))

    def answer(self, inputs: list[Asked]) -> list[dict[str, Answer]]:
        """SAM's masks of the hands of each image."""
        return self.segmenter.answer([asked.prompts for asked in inputs])

    def write(self, item: Item, given: Asked, answer: dict[str, Answer]) -> Members:
        """``hands.png``, ``person.png`` and ``masks.json``."""
        result = self.segmenter.conclude(given.image, given.pose, given.prompts, answer)
        return _members(result, self.segmenter.made_by)


def _members(result: Segmentation, made_by: str) -> Members:
    members = {"hands.png": encode_png(result.hands)}
    if result.person is not None:
        members["person.png"] = encode_png(result.person)
    facts = {"made_by": made_by, "scores": _rounded(result.scores), "size": list(result.hands.shape[::-1])}
    return members | {"masks.json": encode_json(facts)}


def _rounded(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {side: {name: round(value, 4) for name, value in row.items()} for side, row in scores.items()}


def _checkpoint(job: Job) -> Path:
    return sam_checkpoint(job.settings.sam_checkpoint, job.settings.sam_model)


def build(job: Job) -> Worker:
    """The worker that ``masks=`` names."""
    kinds: dict[str, Callable[[Job], Worker]] = {"exact": ExactMasks, "grabcut": GrabCutMasks, "sam": SamMasks}
    return kinds[job.masks](job)


def depends(job: Job) -> dict[str, Any]:
    """Settings that the masks depend on."""
    weights = sha256_of(_checkpoint(job))[:16] if job.masks == "sam" else None
    return {"masks": job.masks, "sam_weights": weights}


def one_model(job: Job) -> bool:
    """SAM is loaded once: on a processor it uses all cores, on a device all memory."""
    return job.masks == "sam"


STAGE = Stage("masks", ("keypoints",), build, depends, one_model)

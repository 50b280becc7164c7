"""Stage ``captions``: one sentence about each image, from the data set or from LLaVA (Section IV-A)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.batches import BatchWorker
from data_prep.chunks import Members
from data_prep.job import Job
from data_prep.pictures import encode_json, found, read_image
from data_prep.worker import ImageWorker, Item, Stage, Worker
from h2d.annotators.caption import TemplateCaptioner
from h2d.annotators.llava import LlavaCaptioner
from h2d.errors import DataError


class TemplateCaptions(ImageWorker):
    """The data set's own captions, and where it has none, sentences from what is known about an image."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.captioner = TemplateCaptioner()

    def prepare(self, item: Item) -> Members:
        """``txt`` and ``captions.json``."""
        labels = self.job.source.labels(self.job.root, item.row)
        if labels.caption:
            return _members(labels.caption, self.job.dataset)
        hands = [side for side in ("right", "left") if f"{side}_hand" in found(item).facts["found"]]
        text = self.captioner.describe(labels.attributes or {"gesture": item.row.gesture}, hands)
        return _members(text, self.captioner.made_by)


class LlavaCaptions(BatchWorker):
    """Captions by LLaVA, several images at once."""

    def __init__(self, job: Job) -> None:
        settings = job.settings
        super().__init__(settings.llava_batch, settings.workers)
        self.job = job
        self.captioner = LlavaCaptioner(settings.llava, settings.device, int(settings.llava_bits), settings.llava_batch)

    def read(self, item: Item) -> np.ndarray:
        """The image, uint8 ``(H, W, 3)``."""
        return read_image(self.job, item)

    def answer(self, inputs: list[np.ndarray]) -> Sequence[str]:
        """A caption for each image."""
        return self.captioner.describe(inputs)

    def write(self, item: Item, given: np.ndarray, answer: str) -> Members:
        """``txt`` and ``captions.json``."""
        if not answer:
            raise DataError("empty caption")
        return _members(answer, self.captioner.made_by)


def _members(text: str, made_by: str) -> Members:
    return {"txt": text.encode(), "captions.json": encode_json({"made_by": made_by})}


def build(job: Job) -> Worker:
    """The worker that ``captions=`` names."""
    return LlavaCaptions(job) if job.settings.captions == "llava" else TemplateCaptions(job)


def depends(job: Job) -> dict[str, Any]:
    """Settings that the captions depend on."""
    settings = job.settings
    llava = {"llava": settings.llava, "llava_bits": settings.llava_bits} if settings.captions == "llava" else {}
    return {"captions": settings.captions} | llava


def one_model(job: Job) -> bool:
    """LLaVA is loaded once."""
    return job.settings.captions == "llava"


STAGE = Stage("captions", ("keypoints", "masks"), build, depends, one_model, pays_from=4000)

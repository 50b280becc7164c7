"""Stage ``captions``: one sentence about each image, from the data set's attributes or from LLaVA (Section IV-A)."""

from __future__ import annotations

from typing import Any

from data_prep.chunks import Members
from data_prep.job import Job
from data_prep.pictures import encode_json, found, read_image
from data_prep.stage import Item, Stage, Worker
from h2d.annotators.caption import LlavaCaptioner, TemplateCaptioner
from h2d.errors import DataError


class TemplateCaptions(Worker):
    """Captions made from what is known about an image, without looking at it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.captioner = TemplateCaptioner()

    def prepare(self, item: Item) -> Members:
        """``txt`` and ``captions.json``."""
        attributes = self.job.source.labels(self.job.root, item.row).attributes
        hands = [side for side in ("right", "left") if f"{side}_hand" in found(item).facts["found"]]
        text = self.captioner.describe(attributes or {"gesture": item.row.gesture}, hands)
        return _members(text, self.captioner.made_by)


class LlavaCaptions(Worker):
    """Captions by LLaVA, several images at once."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.captioner = LlavaCaptioner(job.settings.llava, job.settings.device)

    def prepare_all(self, items: list[Item]) -> list[Members | str]:
        """``txt`` and ``captions.json`` for each image that can still be read."""
        results: list[Members | str] = [""] * len(items)
        images = {}
        for place, item in enumerate(items):
            try:
                images[place] = read_image(self.job, item)
            except DataError as error:
                results[place] = error.message
        places = list(images)
        for start in range(0, len(places), self.job.settings.llava_batch):
            batch = places[start : start + self.job.settings.llava_batch]
            for place, text in zip(batch, self.captioner.describe([images[p] for p in batch]), strict=True):
                results[place] = _members(text, self.captioner.made_by) if text else "empty caption"
        return results


def _members(text: str, made_by: str) -> Members:
    return {"txt": text.encode(), "captions.json": encode_json({"made_by": made_by})}


def build(job: Job) -> Worker:
    """The worker that ``captions=`` names."""
    return LlavaCaptions(job) if job.settings.captions == "llava" else TemplateCaptions(job)


def depends(job: Job) -> dict[str, Any]:
    """Settings that the captions depend on."""
    llava = {"llava": job.settings.llava} if job.settings.captions == "llava" else {}
    return {"captions": job.settings.captions} | llava


def one_model(job: Job) -> bool:
    """LLaVA is loaded once."""
    return job.settings.captions == "llava"


STAGE = Stage("captions", ("keypoints", "masks"), build, depends, one_model, pays_from=4000)

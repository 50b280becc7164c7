"""Stage ``keypoints``: the 133 keypoints of the person in each image (Section IV-A)."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_prep.chunks import Members
from data_prep.job import Job
from data_prep.pictures import digest, encode_json, read_bytes
from data_prep.worker import ImageWorker, Item, Stage
from h2d.annotators.pose import FaceCounter, HolisticPose, found_parts
from h2d.data.schema import encode_npy
from h2d.errors import DataError
from h2d.images import load_image


class Keypoints(ImageWorker):
    """Finds the keypoints with MediaPipe, or takes those that the data set brings."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.faces = FaceCounter()
        self.finder = None if job.keypoints == "exact" else HolisticPose(job.settings.visibility)

    def prepare(self, item: Item) -> Members:
        """``pose.npy`` and ``keypoints.json``; images without a person or without hands are rejected."""
        data = read_bytes(self.job, item)
        image = load_image(data, item.row.image)
        pose, score, made_by = self._find(item, image)
        parts = found_parts(pose)
        if not parts:
            raise DataError("no person found")
        if not parts & {"left_hand", "right_hand"}:
            raise DataError("no hand found")
        if objection := self.job.source.objection(item.row, image, pose):
            raise DataError(objection)
        facts = {
            "faces": self.faces.count(image, pose),
            "found": sorted(parts),
            "made_by": made_by,
            "score": round(score, 4),
            "sha256": digest(data),
            "size": [image.shape[1], image.shape[0]],
        }
        return {"pose.npy": encode_npy(pose), "keypoints.json": encode_json(facts)}

    def close(self) -> None:
        """Free MediaPipe's graphs."""
        self.faces.close()
        if self.finder is not None:
            self.finder.close()

    def _find(self, item: Item, image: np.ndarray) -> tuple[np.ndarray, float, str]:
        if self.finder is not None:
            result = self.finder.detect(image)
            return result.pose, result.score, self.finder.made_by
        pose = self.job.source.labels(self.job.root, item.row).pose
        if pose is None:
            raise DataError("the data set brings no keypoints for it")
        return pose, 1.0, "exact"


def depends(job: Job) -> dict[str, Any]:
    """Settings that the keypoints depend on."""
    return {"keypoints": job.keypoints, "visibility": job.settings.visibility}


STAGE = Stage("keypoints", (), Keypoints, depends)

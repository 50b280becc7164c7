"""What the stages found about one image, joined to one sample of a shard."""

from __future__ import annotations

import json
from typing import Any

from data_prep.chunks import Members
from data_prep.job import Job
from data_prep.pictures import found, read_bytes
from data_prep.worker import ImageWorker, Item
from h2d.data.schema import SCHEMA_VERSION, decode_mask, encode_sample, hand_boxes
from h2d.images import encode_jpeg, load_image, original_extension


class Pack(ImageWorker):
    """Turns what the stages found about an image into a sample."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def prepare(self, item: Item) -> Members:
        """The members of the sample. The pose and the masks are in pixels of the picture that is stored."""
        data = read_bytes(self.job, item)
        extension = original_extension(data)
        if extension is None:
            data, extension = encode_jpeg(load_image(data, item.row.image)), "jpg"
        person = item.members.get("person.png")
        return encode_sample(
            item.row.key,
            data,
            extension,
            decode_mask(item.members["hands.png"]),
            found(item).pose,
            item.members["txt"].decode(),
            _meta(self.job, item),
            None if person is None else decode_mask(person),
        )


def _meta(job: Job, item: Item) -> dict[str, Any]:
    pose = found(item)
    masks, captions, judged = (json.loads(item.members[f"{name}.json"]) for name in ("masks", "captions", "filter"))
    return {
        "schema": SCHEMA_VERSION,
        "key": item.row.key,
        "source": job.dataset,
        "split": item.row.split,
        "subject": item.row.subject,
        "gesture": item.row.gesture,
        "size": pose.facts["size"],
        "hand_boxes": hand_boxes(pose.pose),
        "scores": {"pose": pose.facts["score"], "hands": masks["scores"], "mask_pixels": judged["mask_pixels"]},
        "made_by": {
            "pose": pose.facts["made_by"],
            "hands": masks["made_by"],
            "caption": captions["made_by"],
        },
        "source_sha256": pose.facts["sha256"],
    }

"""HaGRID, photographs of people who show a gesture (Kapitanov et al., 2022): 76,800 images of the paper's training.

Its first release (which the paper cites), 2.0 and v2-1M are read; see ``hagrid_layout``. The landmarks of some releases
are MediaPipe's and wrong at times, so keypoints are found anew, as in the paper (Section IV-A). Left and right hand are
what the picture shows: some of the selfies are mirrored. Take the full images or a copy whose short side is 512: in the
first release's copy with a long side of 512 a hand has some 30 pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from data_prep.sources import Labels, Options, Row
from data_prep.sources.hagrid_layout import AnnotationFile, HagridLayout, canonical
from h2d.skeleton import HAND_SLICES

PAPER_GESTURES = (
    "call",
    "dislike",
    "fist",
    "four",
    "like",
    "mute",
    "ok",
    "one",
    "palm",
    "peace",
    "peace_inverted",
    "rock",
    "stop",
    "stop_inverted",
    "three",
    "three2",
    "two_up",
    "two_up_inverted",
)
"""The 18 of the first release."""
MIN_IOU = 0.1
"""A found hand whose box of keypoints overlaps an annotated box by less is another hand, unless its centre is inside.
True pairs of real photographs reach 0.52 to 0.78."""


@dataclass(frozen=True)
class HagridOptions(Options):
    """Keys of HaGRID."""

    annotations: Annotated[Path | None, "folder that holds ann_train_val, ann_test or train, val, test (root)"] = None
    gestures: Annotated[Literal["paper", "all"], "paper: the 18 of the first release; all: later ones too"] = "paper"


class Hagrid(HagridLayout):
    """Photographs with boxes around the hands, one of which shows the gesture."""

    name = "hagrid"
    options_type = HagridOptions
    origin = (
        "github.com/hukenovs/hagrid says where images and annotations can be had; annotations= and root= where they lie"
    )

    def annotations(self, root: Path) -> Path:
        """The option ``annotations``, else the root."""
        return self.options.annotations or root

    def wanted(self, gesture: str) -> bool:
        """Whether ``gestures`` asks for it."""
        return self.options.gestures == "all" or gesture in PAPER_GESTURES

    def row(self, name: str, file: AnnotationFile, image: str, entry: dict[str, Any]) -> Row:
        """A row whose ``labels`` are JSON: boxes ``[x, y, width, height]`` as shares of the image, and their names."""
        boxes = [[round(value, 5) for value in box] for box in entry.get("bboxes", [])]
        labels = {"bboxes": boxes, "labels": [canonical(label) for label in entry.get("labels", [])]}
        return replace(super().row(name, file, image, entry), labels=json.dumps(labels, separators=(",", ":")))

    def labels(self, root: Path, row: Row) -> Labels:
        """The gesture."""
        return Labels(attributes={"gesture": row.gesture})

    def objection(self, row: Row, image: np.ndarray, pose: np.ndarray) -> str:
        """A found hand must be one that shows the gesture; the other hand, or somebody else's, is not enough.

        Boxes and ``pose`` both belong to the picture as people see it. Where a file's EXIF rotation has been left out
        of its annotation, they do not fit and the image is rejected.
        """
        labels = json.loads(row.labels)
        scale = np.tile(image.shape[1::-1], 2)
        pairs = zip(labels["bboxes"], labels["labels"], strict=True)
        boxes = [np.array(box) * scale for box, label in pairs if label == row.gesture]
        if not boxes:
            return f"annotated hand not found: no box is labelled {row.gesture}"
        hands = [pose[part] for part in HAND_SLICES.values()]
        if any(_is_in(hand[hand[:, 2] > 0, :2], box) for hand in hands for box in boxes):
            return ""
        return f"annotated hand not found: no hand in the box of {row.gesture}"


def _is_in(points: np.ndarray, box: np.ndarray) -> bool:
    """Whether points ``(N, 2)`` of a hand belong to a box ``(x, y, width, height)``, all in pixels."""
    if not len(points):
        return False
    low, high = points.min(axis=0), points.max(axis=0)
    start, end = box[:2], box[:2] + box[2:]
    if np.all(start <= (low + high) / 2) and np.all((low + high) / 2 <= end):
        return True
    common = np.prod(np.clip(np.minimum(high, end) - np.maximum(low, start), 0, None))
    return bool(common > MIN_IOU * (np.prod(high - low) + np.prod(box[2:]) - common))


SOURCE = Hagrid

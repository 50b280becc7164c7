"""InterHand2.6M v1.0: frames of real hands from many cameras, with joints in space (Moon et al., ECCV 2020).

    images/{split}/Capture{N}/{sequence}/cam{camera}/image{frame}.jpg
    annotations/{split}/InterHand2.6M_{split}_{data,camera,joint_3d}.json

The joints are projected once, for the images that were chosen, so that no later stage opens the large files again. An
image may show a second hand that was not annotated; nothing in the files tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np

from data_prep.keys import suggestion
from data_prep.settings import Least
from data_prep.sources import Labels, Options, Row, Source
from data_prep.sources.interhand_annotations import HOME, SPLITS, Annotations, Image, as_flags, with_wrists
from data_prep.sources.joints import Camera, hand_pose, sides
from data_prep.sources.sequence_captions import SequenceCaptions
from h2d.errors import ConfigError, DataError
from h2d.skeleton import HANDS

GREY = "41"
"""Numbers of monochrome cameras begin with this, those of colour cameras with 40."""
_NUMBER = re.compile(r"\d+_(dh_)?")
_RANGE_OF_MOTION = re.compile(r"ROM|.*ROM$")


@dataclass(frozen=True)
class InterhandOptions(Options):
    """The keys of ``interhand``."""

    images: Annotated[
        str, "folder of the images below root; the archive may add one, as in InterHand2.6M_5fps_batch1/images"
    ] = "images"
    splits: Annotated[str, "splits to read, with commas between them"] = ",".join(SPLITS)
    cameras: Annotated[Literal["colour", "all"], "all: also the monochrome ones"] = "colour"
    min_brightness: Annotated[
        float, "frames whose hands are darker than this, 0 to 255 on average, count as black", Least(0)
    ] = 10.0
    sequence_captions: Annotated[
        Path | None, 'JSON of captions by sequence, {"train/Capture3": "...", "train/Capture3/0390_dh_touchROM": "..."}'
    ] = None


class Interhand(Source):
    """The images that the annotation files name."""

    name = "interhand"
    has_poses = True
    uses_own_poses = True
    options_type = InterhandOptions

    def scan(self, root: Path) -> Iterator[Row | tuple[Row, str]]:
        """One row for each image of the annotation files, those that cannot be used with the reason."""
        splits, captions = self._splits(), SequenceCaptions(self.options.sequence_captions)
        sequences: set[str] = set()
        for split in splits:
            yield from self._scan(root, split, sequences)
        captions.check(sequences, unread=set(SPLITS) - set(splits))

    def complete(self, root: Path, rows: list[Row]) -> list[Row]:
        """The rows with their projected joints: ``joints`` (42 of x, y in pixels, or null), ``size``, ``caption``."""
        captions = SequenceCaptions(self.options.sequence_captions)
        done = list(rows)
        for split in sorted({row.split for row in rows}):
            annotations, places = Annotations(root, split), _places(rows, split)
            cameras = annotations.cameras()
            for key, frame in annotations.frames():
                for place in places.get(key, ()):
                    done[place] = _completed(rows[place], frame.joints, cameras, captions)
        return done

    def labels(self, root: Path, row: Row) -> Labels:
        """The pose, of hands alone, words about the gesture, and the caption of the sequence."""
        try:
            facts = json.loads(row.labels)
            joints = np.array([point or (np.nan, np.nan) for point in facts["joints"]])
            pose = hand_pose(sides(joints), tuple(facts["size"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"no joints in the index: {error}", "run the stage index again") from error
        return Labels(pose=pose, attributes={"gesture": gesture_words(row.gesture)}, caption=facts["caption"])

    def objection(self, row: Row, image: np.ndarray, pose: np.ndarray) -> str:
        """Frames that another tool has resized, and those that are black although their sequence is good."""
        size, annotated = [image.shape[1], image.shape[0]], json.loads(row.labels)["size"]
        if size != annotated:
            return f"image of another size: {size} px, {annotated} in the annotations"
        points = pose[HANDS][pose[HANDS, 2] > 0, :2].astype(int)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0) + 1
        brightness = float(image[top:bottom, left:right].mean())
        if brightness < self.options.min_brightness:
            return f"black frame: brightness {brightness:.1f} around the hands, below {self.options.min_brightness:g}"
        return ""

    def _splits(self) -> list[str]:
        splits = [split.strip() for split in self.options.splits.split(",")]
        for split in splits:
            if split not in SPLITS:
                raise ConfigError(f"splits={self.options.splits}: there is no {split!r}", suggestion(split, SPLITS))
        images = PurePosixPath(self.options.images)
        if images.is_absolute() or ".." in images.parts:
            raise ConfigError(f"images={images} must be a folder below root", "name it relative to root")
        return splits

    def _scan(self, root: Path, split: str, sequences: set[str]) -> Iterator[Row | tuple[Row, str]]:
        folder = PurePosixPath(self.options.images) / split
        if not (root / folder).is_dir():
            hint = f"images=FOLDER says where they are, splits= which are wanted; {HOME}"
            raise DataError(f"{root / folder} does not exist", hint)
        annotations = Annotations(root, split)
        cameras = annotations.cameras()
        in_space = {key: frame.valid for key, frame in annotations.frames()}
        in_view = annotations.in_view()
        for image in annotations.images():
            sequences.add(_sequence(split, image.capture, image.sequence))
            row, joints = _row(folder, split, image), in_view.get(image.id, 0)
            if joints is not None:
                joints = with_wrists(joints & in_space.get((image.capture, image.frame), 0))
            reason = self._problem(image, joints, cameras)
            if not reason and not (root / row.image).is_file():
                reason = "no image file"
            yield (row, reason) if reason else replace(row, labels=_facts(image, joints))

    def _problem(self, image: Image, joints: int | None, cameras: dict[tuple[str, str], Camera]) -> str:
        """Why the annotations forbid to use an image."""
        if self.options.cameras == "colour" and image.camera.startswith(GREY):
            return "grey camera"
        if joints is None:
            return "kind of hand not valid"
        if not joints:
            return "no valid joints"
        known = (image.capture, image.camera) in cameras
        return "" if known else f"no parameters of the camera: {image.camera} of capture {image.capture}"


def gesture_words(sequence: str) -> str:
    """The gesture in the name of a sequence, empty for ranges of motion: ``0266_dh_pray`` is ``pray``."""
    return "" if _RANGE_OF_MOTION.match(sequence) else _NUMBER.sub("", sequence, count=1)


def _row(folder: PurePosixPath, split: str, image: Image) -> Row:
    return Row(
        key=f"interhand/{split}_c{image.capture}_{image.camera}_{image.frame}",
        image=str(folder / image.file),
        split=split,
        subject=f"{split}-{image.subject}",
        gesture=image.sequence,
    )


def _facts(image: Image, joints: int | None) -> str:
    """What ``complete`` needs of the entry of an image."""
    keys = {"capture": image.capture, "camera": image.camera, "frame": image.frame}
    return json.dumps(keys | {"size": image.size, "valid": joints})


def _places(rows: list[Row], split: str) -> dict[tuple[str, str], list[int]]:
    """Places of the rows of a split, by capture and frame."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        if row.split == split:
            facts = json.loads(row.labels)
            places.setdefault((facts["capture"], facts["frame"]), []).append(place)
    return places


def _completed(row: Row, joints: np.ndarray, cameras: dict[tuple[str, str], Camera], captions: SequenceCaptions) -> Row:
    facts: dict[str, Any] = json.loads(row.labels)
    pixels = cameras[facts["capture"], facts["camera"]].project(joints)[:, :2]
    usable = as_flags(facts["valid"]) & np.isfinite(pixels).all(axis=1)
    labels = {
        "caption": captions.of(_sequence(row.split, facts["capture"], row.gesture)),
        "joints": [point if ok else None for point, ok in zip(pixels.round(3).tolist(), usable.tolist(), strict=True)],
        "size": facts["size"],
    }
    return replace(row, labels=json.dumps(labels, separators=(",", ":")))


def _sequence(split: str, capture: str, name: str) -> str:
    return f"{split}/Capture{capture}/{name}"


SOURCE = Interhand

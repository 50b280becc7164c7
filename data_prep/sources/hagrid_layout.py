"""The layouts of HaGRID's releases: folders of images by gesture, and annotation files by split and gesture.

    first release (2022)                               2.0 (2023) and v2-1M (2024)
    ann_train_val/GESTURE.json, ann_test/GESTURE.json  annotations/{train,val,test}/GESTURE.json
    train_val/GESTURE/UUID.jpg, test/GESTURE/UUID.jpg  GESTURE/UUID.jpg
    or train_val_GESTURE/UUID.jpg, test_GESTURE/...

All of it may lie one folder deeper, and ``annotations`` beside or around the folders of the first release. An
annotation file maps the name of an image to ``bboxes``, ``labels`` and ``user_id``; other keys depend on the release
and are not needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.sources import Row, Source, stable_hash
from data_prep.sources.listing import Listing
from h2d.errors import DataError

FIRST_RELEASE = {"ann_test": "test", "ann_train_val": "train_val"}
LATER_RELEASES = {"test": "test", "val": "val", "train": "train"}
"""Folders of annotation files, and the part of the data set in each. Test first: what is in two parts stays in test."""
TOO_LARGE = 10
"""Boxes are shares of the image and leave [0, 1] by little; larger numbers are pixels."""


@dataclass(frozen=True)
class AnnotationFile:
    """The entries of one gesture in one part of the data set, and where their images lie.

    Args:
        path: the file.
        folders: the folders that can hold its images, relative to the root.
    """

    path: Path
    folders: tuple[str, ...]

    @property
    def gesture(self) -> str:
        """The gesture of all its images."""
        return canonical(self.path.stem)

    @property
    def part(self) -> str:
        """``train_val``, ``train``, ``val`` or ``test``."""
        return (FIRST_RELEASE | LATER_RELEASES)[self.path.parent.name]

    @property
    def split(self) -> str:
        """The split in the index, which itself divides ``train_val``."""
        return "" if self.part == "train_val" else self.part


class HagridLayout(Source):
    """Images named by annotation files."""

    keeps_gestures = True
    origin = ""
    """Where the data set can be had, a hint."""

    def scan(self, root: Path) -> Iterator[Row | tuple[Row, str]]:
        """One row for each entry of each annotation file.

        Rejected are entries without an image or with a broken schema, and people of another split. Official splits
        share no people, so the latter come from two downloads that were mixed.
        """
        parts: dict[str, str] = {}
        for file in self._files(root):
            listing, part = Listing(root), file.part
            for name, entry in sorted(read_annotations(file.path).items()):
                image, problem = _find(listing, file, name), broken(entry)
                row = self.row(name, file, image or f"{file.gesture}/{name}.jpg", {} if problem else entry)
                first = part if problem else parts.setdefault(row.subject, part)
                problem = problem or ("" if image else "no image file")
                if not problem and first != part:
                    problem = f"user in two splits: {first} and {part}"
                yield (row, problem) if problem else row

    def row(self, name: str, file: AnnotationFile, image: str, entry: dict[str, Any]) -> Row:
        """The index row of an annotation entry, which is empty when its schema is broken."""
        return Row(
            key=f"{self.name}/{_key(name)}",
            image=image,
            split=file.split,
            subject=str(entry.get("user_id", "")),
            gesture=file.gesture,
        )

    def annotations(self, root: Path) -> Path:
        """The folder that holds the annotation files or their folder ``annotations``."""
        return root

    def wanted(self, gesture: str) -> bool:
        """Whether images of a gesture are read."""
        return True

    def _files(self, root: Path) -> list[AnnotationFile]:
        place = self.annotations(root)
        paths = _annotation_paths(place)
        if not paths:
            known = "annotations/{train,val,test} or ann_train_val, ann_test"
            raise DataError(f"no annotation files in {place}: {known}", self.origin)
        wanted = [path for path in paths if self.wanted(canonical(path.stem))]
        if not wanted:
            names = ", ".join(sorted({canonical(path.stem) for path in paths}))
            raise DataError(f"{place} holds annotations of other gestures only: {names}", "gestures=all takes them")
        files = [AnnotationFile(path, _image_folders(root, path)) for path in wanted]
        if not any(file.folders for file in files):
            examples = f"call, train_val/call or train_val_call for {wanted[0]}"
            raise DataError(f"no folders of images in {root} such as {examples}", self.origin)
        return files


def canonical(gesture: str) -> str:
    """The name of a gesture as HaGRID's folders write it: some lists have a blank in ``stop inverted``."""
    return gesture.strip().replace(" ", "_")


def read_annotations(file: Path) -> dict[str, dict[str, Any]]:
    """The entries of an annotation file.

    Raises:
        DataError: the file is not JSON, or not a map of names to entries.
    """
    try:
        entries = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is not an annotation file: {error}", "fetch it again") from error
    if not isinstance(entries, dict) or (entries and not any(isinstance(entry, dict) for entry in entries.values())):
        raise DataError(f"{file} is not an annotation file: it does not map names to entries", "fetch it again")
    return {name: entry if isinstance(entry, dict) else {} for name, entry in entries.items()}


def broken(entry: dict[str, Any]) -> str:
    """What is wrong with the keys of an entry that every release has; empty when nothing is."""
    boxes, labels = entry.get("bboxes"), entry.get("labels")
    if not isinstance(boxes, list) or not all(map(_is_box, boxes)):
        return "broken annotation: bboxes are not [x, y, width, height] as shares of the image"
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return "broken annotation: labels are not a list of names"
    if len(labels) != len(boxes):
        return f"broken annotation: {len(boxes)} bboxes and {len(labels)} labels"
    user = entry.get("user_id")
    if not isinstance(user, str | int) or user == "" or not str(user).isprintable():
        return "broken annotation: user_id is missing or no name"
    return ""


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    shares = all(isinstance(value, int | float) and abs(value) < TOO_LARGE for value in box)
    return shares and box[2] > 0 and box[3] > 0


def _annotation_paths(place: Path) -> list[Path]:
    first, later = (_in_folders(place, release) for release in (FIRST_RELEASE, LATER_RELEASES))
    if first and later:
        hint = "an image for training in one may be for testing in the other: keep the annotations of one of them"
        raise DataError(f"{place} holds annotations of HaGRID's first and of a later release", hint)
    return first or later


def _in_folders(place: Path, names: Iterable[str]) -> list[Path]:
    folders = [parent / name for name in names for parent in (place, place / "annotations")]
    paths = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    return [path for path in paths if not path.name.startswith(".")]


def _image_folders(root: Path, path: Path) -> tuple[str, ...]:
    """Folders that can hold the images of an annotation file and exist, relative to the root."""
    part, gesture = FIRST_RELEASE.get(path.parent.name), canonical(path.stem)
    names = dict.fromkeys((gesture, path.stem, gesture.replace("_inverted", " inverted")))
    tails = [tail for name in names for tail in ([f"{part}/{name}", f"{part}_{name}"] if part else [name])]
    above = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    candidates = tails + [f"{folder}/{tail}" for folder in above for tail in tails]
    return tuple(folder for folder in candidates if (root / folder).is_dir())


def _find(listing: Listing, file: AnnotationFile, name: str) -> str:
    folders = (folder for folder in file.folders if f"{name}.jpg" in listing.names(folder))
    return next((f"{folder}/{name}.jpg" for folder in folders), "")


def _key(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]
    return safe if safe == name else f"{safe}-{stable_hash(ascii(name))[:8]}"

"""From what the user names to the people in it."""

from __future__ import annotations

import os
from pathlib import Path

from h2d.data.shards import MANIFEST
from h2d.detection import Detector
from h2d.images import EXTENSIONS
from h2d.poses.keypoint_file import looks_like_json, read_keypoint_file
from h2d.poses.photograph import read_photograph
from h2d.poses.scene import Scene
from h2d.poses.shard_sample import first_of_folder, from_shards

SEPARATOR = "::"
"""Between a file or a folder and the name of an image or of a sample in it."""


def read_scene(source: str, people: int = 1, detector: Detector | None = None) -> Scene:
    """The people of a photograph, of a keypoint file or of a sample of shards.

    Args:
        source: ``photograph.jpg``; a JSON file of our own form, of OpenPose, or of COCO-WholeBody with one image;
            ``annotations.json::IMAGE`` (id or file name); ``FOLDER`` of shards (the first sample of its test split, or
            of the split that it has instead); ``FOLDER::KEY`` or ``train-000000.tar::KEY``. A file's name does not
            matter, its content does.
        people: of a photograph or a file that shows several, take at most so many: those whose keypoints span the
            largest boxes, largest first. A file of our own form keeps its order.
        detector: for photographs; a caller with many gives one, which would else be started for each.

    Raises:
        DataError: the source is missing or damaged, or shows nobody.
        ValueError: ``people`` is less than 1.
    """
    if people < 1:
        raise ValueError(f"people must be at least 1, not {people}")
    if SEPARATOR in source and not os.path.exists(source):
        place, _, name = source.rpartition(SEPARATOR)
        if os.path.isfile(place) and looks_like_json(Path(place)):
            return read_keypoint_file(Path(place), name, people)
        return from_shards(Path(place), name)
    path = Path(source)
    if os.path.isdir(path):
        return first_of_folder(path)
    if looks_like_json(path):
        return read_keypoint_file(path, None, people)
    return read_photograph(path, people, detector)


def sources_in(named: str) -> list[str]:
    """The pictures of a folder of photographs, by name; anything else, a folder of shards too, as it was named."""
    folder = Path(named)
    if not os.path.isdir(folder) or (folder / MANIFEST).exists():
        return [named]
    return sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS) or [named]

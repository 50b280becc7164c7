"""Any folder of photographs, with any folders in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from data_prep.sources import Row, Source, stable_hash
from h2d.images import EXTENSIONS

UNREAD = (".gif", ".heic", ".heif", ".avif", ".jxl", ".jfif", ".dng", ".cr2", ".nef", ".arw")
"""Pictures of other formats, which are counted as rejected."""


class Folder(Source):
    """Every picture below the root, told by its extension; hidden files and folders are left alone."""

    name = "folder"
    may_grow = True

    def scan(self, root: Path) -> Iterator[Row | tuple[Row, str]]:
        """One row for each picture, and one with the reason for each folder or picture that stays out."""
        closed: list[OSError] = []
        for place, folders, files in os.walk(root, onerror=closed.append, followlinks=False):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for path in (Path(place) / name for name in folders):
                if path.is_symlink():
                    yield _row(path, root), "link to a folder: not followed"
            for path in (Path(place) / name for name in sorted(files) if not name.startswith(".")):
                extension = path.suffix.lower()
                if extension in EXTENSIONS:
                    yield _row(path, root)
                elif extension in UNREAD:
                    yield _row(path, root), f"format not read: {extension}"
        for error in closed:
            yield _row(Path(error.filename), root), f"folder cannot be opened: {error.strerror}"


def _row(path: Path, root: Path) -> Row:
    """The key holds the name, made safe, and a hash of the whole relative path."""
    image = path.relative_to(root).as_posix()
    return Row(key=f"folder/{_slug(path.stem)}-{stable_hash(image)[:8]}", image=image)


def _slug(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:60].strip("_") or "image"


SOURCE = Folder

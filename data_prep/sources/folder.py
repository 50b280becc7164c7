"""Any folder of photographs, with any folders in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from data_prep.sources import Row, Source, stable_hash
from h2d.images import EXTENSIONS


class Folder(Source):
    """Every picture below the root, told by its extension; hidden files and folders are left alone."""

    name = "folder"

    def scan(self, root: Path) -> Iterator[Row]:
        """One row for each picture. Its key holds the name, made safe, and a hash of the whole relative path."""
        for folder, folders, files in os.walk(root, followlinks=False):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                    path = (Path(folder) / name).relative_to(root).as_posix()
                    yield Row(key=f"folder/{_slug(Path(name).stem)}-{stable_hash(path)[:8]}", image=path)


def _slug(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:60].strip("_") or "image"


SOURCE = Folder()

"""The layout of HaGRID: ``GESTURE/UUID.jpg`` beside ``annotations/{train,val,test}/GESTURE.json``.

An annotation file maps the name of an image to ``bboxes``, ``labels`` and ``user_id`` (older releases add landmarks).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.sources import Row, Source, stable_hash
from h2d.errors import DataError

SPLITS = ("train", "val", "test")


class HagridLayout(Source):
    """Images named by annotation files; the file's split is the image's split."""

    def scan(self, root: Path) -> Iterator[Row | tuple[Row, str]]:
        """One row for each entry of each annotation file; entries without an image come with that reason."""
        files = [path for split in SPLITS for path in sorted((root / "annotations" / split).glob("*.json"))]
        if not files:
            raise DataError(f"no annotation files in {root}/annotations/{{train,val,test}}", "check root=")
        for file in files:
            for name, entry in sorted(read_annotations(file).items()):
                row = self.row(name, file.stem, file.parent.name, entry)
                exists = (root / row.image).is_file()
                yield row if exists else (row, "no image file")

    def row(self, name: str, gesture: str, split: str, entry: dict[str, Any]) -> Row:
        """The index row of an annotation entry."""
        return Row(
            key=f"{self.name}/{_key(name)}",
            image=f"{gesture}/{name}.jpg",
            split=split,
            subject=str(entry.get("user_id", "")),
            gesture=gesture,
        )


def read_annotations(file: Path) -> dict[str, dict[str, Any]]:
    """The entries of an annotation file.

    Raises:
        DataError: the file is not JSON, or not a map of names to entries.
    """
    try:
        entries = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not an annotation file: {error}") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise DataError(f"{file} is not an annotation file: it does not map names to entries")
    return entries


def _key(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]
    return safe if safe == name else f"{safe}-{stable_hash(name)[:8]}"

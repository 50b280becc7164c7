"""Rendered people: HaGRID's layout plus exact labels in ``exact/GESTURE/UUID.{pose.npy,hands.png,person.png,json}``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.sources import Labels, Row
from data_prep.sources.hagrid_layout import AnnotationFile, HagridLayout
from h2d.data.schema import decode_mask, decode_npy
from h2d.errors import DataError


class Synthetic(HagridLayout):
    """What ``python -m data_prep generate synthetic`` leaves."""

    name = "synthetic"
    origin = "python -m data_prep generate synthetic"
    has_masks = True
    has_poses = True

    def row(self, name: str, file: AnnotationFile, image: str, entry: dict[str, Any]) -> Row:
        """A HaGRID row that also says where the exact labels are."""
        return replace(super().row(name, file, image, entry), labels=f"exact/{file.gesture}/{name}")

    def labels(self, root: Path, row: Row) -> Labels:
        """Pose, masks and attributes that the renderer wrote."""
        try:
            content = {ext: (root / f"{row.labels}.{ext}").read_bytes() for ext in ("pose.npy", "hands.png", "json")}
            person = root / f"{row.labels}.person.png"
            return Labels(
                pose=decode_npy(content["pose.npy"]).astype("float32"),
                hands=decode_mask(content["hands.png"]),
                person=decode_mask(person.read_bytes()) if person.is_file() else None,
                attributes=json.loads(content["json"]),
            )
        except (OSError, ValueError) as error:
            raise DataError(f"exact labels: {error}") from error


SOURCE = Synthetic

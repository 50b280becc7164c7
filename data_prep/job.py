"""One data set being prepared in one folder: where things are, and how its images are shared out."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from data_prep.settings import Settings
from data_prep.sources import Row, Source, get_source
from h2d.annotators.sam import sam_model
from h2d.errors import ConfigError, DataError, SetupError
from h2d.locks import sharing
from h2d.weights import is_local_model, sam_checkpoint

INDEX = "index.jsonl"
FOLDERS = ("index", "keypoints", "masks", "captions", "filter", "pack", "shards")
"""What the stages make under ``out``; anything else there is not ours."""


@dataclass(frozen=True)
class Job:
    """What every stage is given. Small and picklable: worker processes get a copy."""

    dataset: str
    settings: Settings
    root: Path
    out: Path

    @cached_property
    def source(self) -> Source:
        """The reader of the data set."""
        return get_source(self.dataset, self.settings.options)

    @property
    def keypoints(self) -> str:
        """Who finds the keypoints, with ``auto`` resolved."""
        if self.settings.keypoints != "auto":
            return self.settings.keypoints
        return "exact" if self.source.uses_own_poses else "mediapipe"

    @property
    def masks(self) -> str:
        """Who segments the hands, with ``auto`` resolved."""
        if self.settings.masks != "auto":
            return self.settings.masks
        if self.source.has_masks:
            return "exact"
        return "sam" if self.settings.sam_checkpoint else "grabcut"

    def check(self) -> None:
        """Find out before hours of work that a later stage cannot do what it is asked for.

        Raises:
            ConfigError: a setting needs another one, or something that the data set does not bring.
            SetupError: a checkpoint or a model folder is not there.
        """
        settings = self.settings
        if self.keypoints == "exact" and not self.source.has_poses:
            raise ConfigError(f"{self.dataset} brings no keypoints of its own", "use keypoints=mediapipe")
        if settings.ids is not None and not settings.ids.is_file():
            raise ConfigError(f"ids={settings.ids} does not exist", "a file with one key a line")
        if self.masks == "exact" and not self.source.has_masks:
            raise ConfigError(f"{self.dataset} brings no masks of its own", "use masks=sam or masks=grabcut")
        if self.masks == "sam":
            checkpoint = sam_checkpoint(settings.sam_checkpoint, settings.sam_model)
            if settings.sam_model == "auto":
                sam_model(checkpoint)
        if settings.captions == "llava" and not is_local_model(settings.llava):
            hint = (
                "`h2d doctor --fetch llava` gets LLaVA-1.5-7b; llava=FOLDER names another; captions=template needs none"
            )
            raise SetupError(f"llava={settings.llava} is not on this machine", hint)

    def folder(self, stage: str) -> Path:
        """Where a stage keeps its results."""
        return self.out / stage

    def rows(self) -> list[Row]:
        """The index.

        Raises:
            DataError: it has not been made yet.
        """
        path = self.out / INDEX
        if not path.is_file():
            raise DataError(f"{path} does not exist", f"run `python -m data_prep index {self.dataset} ...` first")
        return list(_rows(path, path.stat().st_ino, path.stat().st_size))

    def chunks(self) -> list[tuple[int, list[Row]]]:
        """The index cut into numbered chunks, of which a job of an array sees its share only."""
        rows, size, part = self.rows(), self.settings.chunk_size, self.settings.slice
        chunks = list(enumerate(rows[start : start + size] for start in range(0, len(rows), size)))
        return chunks if part is None else list(part.of(chunks))

    def sharing(self) -> contextlib.AbstractContextManager[None]:
        """Work in ``out``, maybe beside other commands, after clearing away what killed ones left."""
        return sharing(self.out, FOLDERS)


@lru_cache(maxsize=1)
def _rows(path: Path, inode: int, size: int) -> tuple[Row, ...]:
    """The lines of an index. It never changes; the other arguments tell one that was made anew."""
    return tuple(Row(**json.loads(line)) for line in path.read_bytes().splitlines())

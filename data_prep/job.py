"""One data set being prepared in one folder: where things are, and that nobody else works there."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data_prep.locks import alone_in
from data_prep.settings import Settings
from data_prep.sources import Row, Source, get_source
from h2d.annotators.segment import sam_model
from h2d.errors import ConfigError, DataError, SetupError

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
        return get_source(self.dataset)

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
        if settings.keypoints == "exact" and not self.source.has_poses:
            raise ConfigError(f"{self.dataset} brings no keypoints of its own", "use keypoints=mediapipe")
        if self.masks == "exact" and not self.source.has_masks:
            raise ConfigError(f"{self.dataset} brings no masks of its own", "use masks=sam or masks=grabcut")
        if self.masks == "sam":
            if settings.sam_checkpoint is None:
                hint = "sam_checkpoint=PATH is a file such as sam_vit_h_4b8939.pth; masks=grabcut needs none"
                raise ConfigError("masks=sam needs sam_checkpoint", hint)
            if not settings.sam_checkpoint.is_file():
                hint = "masks=grabcut needs no weights"
                raise SetupError(f"sam_checkpoint={settings.sam_checkpoint} does not exist", hint)
            if settings.sam_model == "auto":
                sam_model(settings.sam_checkpoint)
        local = settings.llava.startswith((".", "/", "~"))
        if settings.captions == "llava" and local and not Path(settings.llava).expanduser().is_dir():
            raise SetupError(f"llava={settings.llava} does not exist", "captions=template needs no model")

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
        return [Row(**json.loads(line)) for line in path.read_bytes().splitlines()]

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold ``out`` for this command, and clear away what a killed one left; see ``alone_in``."""
        return alone_in(self.out, [f".{INDEX}.*.tmp", *(f"{name}/.*.tmp" for name in FOLDERS)])

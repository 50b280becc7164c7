"""One data set being prepared in one folder: where things are, and that nobody else works there."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data_prep.settings import Settings
from data_prep.sources import Row, Source, get_source
from h2d.errors import DataError, SetupError

INDEX = "index.jsonl"


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

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this command, and clear away what a killed one left.

        Raises:
            SetupError: another command works in the folder, or it cannot be written.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            file = open(self.out / ".lock", "w")  # noqa: SIM115
        except OSError as error:
            raise SetupError(f"cannot write to out={self.out}: {error.strerror}", "choose another out=") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SetupError(f"another command is at work in {self.out}", "wait for it, or choose out=") from None
            except OSError:  # a file system without locks: then nothing may be cleared away either
                yield
                return
            for leftover in self.out.glob("**/.*.tmp"):
                leftover.unlink(missing_ok=True)
            yield

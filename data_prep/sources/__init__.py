"""One reader for each layout of raw data. A new data set is one file with a ``SOURCE``, and its name in ``NAMES``."""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

NAMES = ("synthetic", "folder")


@dataclass(frozen=True)
class Row:
    """One image of a data set, a line of the index.

    Args:
        key: unique over all data sets, ``source/name`` (see ``h2d.data.schema.validate_key``).
        image: its path relative to the root.
        split: train, val or test; empty when the data set has none (the index then draws val).
        subject: the person, so that nobody is in two splits; empty when unknown.
        gesture: empty when unknown.
        labels: path of the data set's own labels relative to the root; empty when there are none.
    """

    key: str
    image: str
    split: str = ""
    subject: str = ""
    gesture: str = ""
    labels: str = ""

    def as_dict(self) -> dict[str, str]:
        """The row as it stands in the index."""
        return asdict(self)


@dataclass(frozen=True)
class Labels:
    """What a data set itself knows about an image; None where it knows nothing.

    Args:
        pose: float32 ``(133, 3)``, see ``h2d.skeleton``.
        hands: uint8 ``(H, W)``, 1 right hand, 2 left.
        person: uint8 ``(H, W)``, 255 on the person.
        attributes: words for the caption.
    """

    pose: np.ndarray | None = None
    hands: np.ndarray | None = None
    person: np.ndarray | None = None
    attributes: dict[str, Any] | None = None


class Source(ABC):
    """A data set on the disk. Subclasses say what is in it; nothing is decoded here."""

    name = ""
    has_masks = False
    has_poses = False

    @abstractmethod
    def scan(self, root: Path) -> Iterator[Row | tuple[Row, str]]:
        """Every image, in any order; an image that cannot be used comes with the reason."""

    def labels(self, root: Path, row: Row) -> Labels:
        """The data set's own labels of an image.

        Raises:
            DataError: they should be there and are not, or are damaged.
        """
        return Labels()


def get_source(name: str) -> Source:
    """The reader of a data set by its name on the command line."""
    return importlib.import_module(f"data_prep.sources.{name}").SOURCE


def stable_hash(text: str) -> str:
    """64 hexadecimal digits that depend on ``text`` alone, on every machine."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

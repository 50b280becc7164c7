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

NAMES = ("synthetic", "folder", "hagrid", "laion_human", "interhand", "reinterhand")


@dataclass(frozen=True)
class Row:
    """One image of a data set, a line of the index.

    Args:
        key: unique over all data sets, ``source/name`` (see ``h2d.data.schema.validate_key``).
        image: its path relative to the root.
        split: train, val or test; empty when the data set has none (the index then draws val).
        subject: the person, so that nobody is in two splits; empty when unknown.
        gesture: empty when unknown.
        labels: what the source needs to find the data set's own labels again, a path or JSON; empty when it needs
            nothing.
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
        caption: the data set's own caption, one line.
    """

    pose: np.ndarray | None = None
    hands: np.ndarray | None = None
    person: np.ndarray | None = None
    attributes: dict[str, Any] | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Options:
    """The keys that one data set adds to those of ``data_prep.settings``; by default none.

    A field is declared as there: ``name: Annotated[type, "its meaning"] = default``.
    """


class Source(ABC):
    """A data set on the disk. Subclasses say what is in it.

    Args:
        options: values of the data set's own keys, an instance of the class attribute ``options_type``.
    """

    name = ""
    has_masks = False
    has_poses = False
    uses_own_poses = False
    """Whether its own keypoints are taken when nobody says ``keypoints=``."""
    keeps_gestures = False
    """Whether a part of it is drawn with the gestures in the proportions of the whole."""
    may_grow = False
    """Whether users add images to it; then every command looks for new ones."""
    options_type: type[Options] = Options

    def __init__(self, options: Options | None = None) -> None:
        self.options: Any = options or self.options_type()

    @abstractmethod
    def scan(self, root: Path) -> Iterator[Row | tuple[Row, str]]:
        """Every image, in any order; an image that cannot be used comes with the reason.

        Raises:
            DataError: a file of the data set is missing or damaged. Names it, and says where it can be had.
        """

    def complete(self, root: Path, rows: list[Row]) -> list[Row]:
        """The rows that were chosen from those of ``scan``, with ``labels`` that would be too large for all images."""
        return rows

    def labels(self, root: Path, row: Row) -> Labels:
        """The data set's own labels of an image.

        Raises:
            DataError: they should be there and are not, or are damaged.
        """
        return Labels()

    def objection(self, row: Row, image: np.ndarray, pose: np.ndarray) -> str:
        """Why an image must not be used although it can be read and has keypoints; empty when there is no reason.

        Args:
            row: its row of the index.
            image: uint8 ``(H, W, 3)``.
            pose: float32 ``(133, 3)``, as found or as the data set brings it.
        """
        return ""


def get_source(name: str, options: Options | None = None) -> Source:
    """The reader of a data set by its name on the command line, with values of its own keys."""
    source: type[Source] = importlib.import_module(f"data_prep.sources.{name}").SOURCE
    return source(options)


def stable_hash(text: str) -> str:
    """64 hexadecimal digits that depend on ``text`` alone, on every machine."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

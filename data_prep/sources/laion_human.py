"""LAION-Human, pictures of people with the texts that stood beside them (Ju et al., HumanSD, 2023).

36,500 of them train the outpainting (Section IV-A). The release holds lists of URLs (``.parquet``), poses and the
mapping; the images are fetched by the user. In HumanSD's folders, of which root may be any::

    humansd_data/datasets/Laion/Aesthetics_Human/mapping_file_training.json  {any: {"img_path", "pose_path", "prompt"}}
    humansd_data/datasets/Laion/Aesthetics_Human/images/00000/000000000.jpg
    humansd_data/datasets/Laion/Aesthetics_Human/pose/00000/000000000.npz

The poses are never opened: they are pickled Python objects, which run code when they are read, and the paper replaces
them by MediaPipe's. That an image shows one person is seen by the filter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import ijson

from data_prep.sources import Labels, Options, Row, Source, stable_hash
from data_prep.sources.listing import Listing
from h2d.errors import ConfigError, DataError

MAPPING = "mapping_file_training.json"
HUMANSD_FOLDERS = ("humansd_data", "datasets", "Laion", "Aesthetics_Human")
ORIGIN = (
    "annotations: the form in the README of github.com/IDEA-Research/HumanSD;"
    " images: by their URLs, for example with img2dataset"
)


@dataclass(frozen=True)
class LaionHumanOptions(Options):
    """Keys of LAION-Human."""

    mapping: Annotated[Path | None, f"the mapping file ({MAPPING} in one of HumanSD's folders)"] = None
    base: Annotated[Path | None, "folder in root that img_path is relative to (found by trying)"] = None


@dataclass(frozen=True)
class Location:
    """Where images lie: in ``base``, relative to the root, without the first ``skipped`` folders of ``img_path``."""

    base: str
    skipped: int = 0

    def image(self, path: PurePosixPath) -> PurePosixPath:
        """An ``img_path`` relative to the root."""
        return PurePosixPath(self.base, *path.parts[self.skipped :])


class LaionHuman(Source):
    """Every entry of the mapping whose image has been fetched."""

    name = "laion_human"
    options_type = LaionHumanOptions

    def scan(self, root: Path) -> Iterator[Row | tuple[Row, str]]:
        """One row for each entry; the mapping is never held in memory as a whole."""
        mapping, listing = self._mapping(root), Listing(root)
        location = self._location(root, mapping, listing)
        for name, entry in read_mapping(mapping):
            if problem := broken(entry):
                yield Row(f"{self.name}/entry-{stable_hash(ascii(name))[:16]}", name), problem
                continue
            path = PurePosixPath(entry["img_path"])
            image = path if ".." in path.parts else location.image(path)
            row = Row(f"{self.name}/{_key(path)}", str(image), labels=one_line(entry.get("prompt") or ""))
            yield row if _exists(listing, image) else (row, "no image file")

    def labels(self, root: Path, row: Row) -> Labels:
        """The prompt."""
        return Labels(caption=row.labels or None)

    def _mapping(self, root: Path) -> Path:
        if self.options.mapping is not None:
            known = [self.options.mapping]
        else:
            known = [root / place / MAPPING for place in _places()]
        for path in known:
            if path.is_file():
                return path
        raise DataError(f"{known[0]} does not exist", f"{ORIGIN}; mapping=PATH names the file")

    def _location(self, root: Path, mapping: Path, listing: Listing) -> Location:
        if self.options.base is not None:
            return _search(root, mapping, listing, [_inside(root, self.options.base)])
        places = dict.fromkeys([*_places(), *_above(root, mapping)])
        return _search(root, mapping, listing, [place for place in places if (root / place).is_dir()])


def read_mapping(mapping: Path) -> Iterator[tuple[str, Any]]:
    """The entries of the mapping, one after the other.

    Raises:
        DataError: it cannot be read, is not JSON, or is not a map with entries.
    """
    empty = True
    try:
        with mapping.open("rb") as file:
            for name, entry in ijson.kvitems(file, "", use_float=True):
                empty = False
                yield name, entry
    except (OSError, ValueError, ijson.JSONError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{mapping} is not a mapping file: {reason}", "fetch it again") from error
    if empty:
        raise DataError(f"{mapping} is not a mapping file: it maps nothing", "fetch it again")


def broken(entry: Any) -> str:
    """What is wrong with an entry of the mapping; empty when nothing is."""
    if not isinstance(entry, dict) or not isinstance(entry.get("img_path"), str) or not entry["img_path"]:
        return "broken entry: no img_path"
    if not isinstance(entry.get("prompt") or "", str):
        return "broken entry: prompt is not a text"
    return ""


def one_line(text: str) -> str:
    """A text without control and invisible characters, with single blanks."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(text.split())


def _search(root: Path, mapping: Path, listing: Listing, bases: list[str]) -> Location:
    """The first place where an image of the mapping exists; what was fetched may be any part of it."""
    seen: dict[PurePosixPath, list[Location]] = {}
    example = ""
    for _, entry in read_mapping(mapping):
        if broken(entry) or ".." in (path := PurePosixPath(entry["img_path"])).parts:
            continue
        if path.parent not in seen:
            depths = range(max(1, min(len(path.parts) - 1, len(HUMANSD_FOLDERS) + 1)))
            places = [Location(base, skipped) for skipped in depths for base in bases]
            seen[path.parent] = [place for place in places if _names(listing, place.image(path))]
        for place in seen[path.parent]:
            if _exists(listing, place.image(path)):
                return place
        example = example or str(path)
    tried = ", ".join(base or "root" for base in bases)
    message = f"none of the images of {mapping} is in {root}: looked for {example} and its last folders in {tried}"
    raise DataError(message, f"{ORIGIN}; base=PATH names the folder that img_path is relative to")


def _exists(listing: Listing, image: PurePosixPath) -> bool:
    return image.name in _names(listing, image)


def _names(listing: Listing, image: PurePosixPath) -> frozenset[str]:
    """What lies beside an image; nothing when its path leaves the root."""
    outside = image.is_absolute() or ".." in image.parts
    return frozenset() if outside else listing.names(str(image.parent))


def _places() -> list[str]:
    """HumanSD's folders as seen from any of them, the root itself first."""
    count = len(HUMANSD_FOLDERS)
    parts = [HUMANSD_FOLDERS[start:end] for start in range(count) for end in range(start + 1, count + 1)]
    return ["", *sorted(("/".join(part) for part in parts), key=len)]


def _above(root: Path, mapping: Path) -> list[str]:
    """The folders from that of the mapping up to the root, nearest first; none when it lies elsewhere."""
    place = Path(os.path.relpath(mapping.parent, root)).as_posix()
    if place.startswith(".."):
        return []
    return [
        "" if str(folder) == "." else str(folder) for folder in (PurePosixPath(place), *PurePosixPath(place).parents)
    ]


def _inside(root: Path, base: Path) -> str:
    if not base.is_dir():
        raise ConfigError(f"base={base} is not a folder", "it is the folder that img_path is relative to")
    place = Path(os.path.relpath(base, root)).as_posix()
    if place.startswith(".."):
        raise ConfigError(f"base={base} lies outside root={root}", "root= must hold the images")
    return "" if place == "." else place


def _key(path: PurePosixPath) -> str:
    """Folder and name, as in ``00000_000000000``; what is not safe or too long is replaced, with a hash of the path."""
    name = f"{path.parent.name}_{path.stem}"
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:80]
    return safe if safe == name else f"{safe}-{stable_hash(ascii(str(path)))[:8]}"


SOURCE = LaionHuman

"""Which files there are: each folder is listed once, for asking after every image takes hours on a network disk."""

from __future__ import annotations

import os
from pathlib import Path

from h2d.errors import DataError


class Listing:
    """Names of the files in the folders below ``root``, kept as long as this object lives."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, frozenset[str]] = {}

    def names(self, folder: str) -> frozenset[str]:
        """Names of the files in a folder, given relative to the root; none when there is no such folder.

        Raises:
            DataError: the folder is there and may not be read.
        """
        if folder not in self._names:
            self._names[folder] = _names(self._root / folder)
        return self._names[folder]


def _names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
    except PermissionError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}", "make the folder readable") from error
    except (OSError, ValueError):  # a name out of an annotation file can be anything, also no name at all
        return frozenset()

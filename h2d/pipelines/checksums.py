"""Checksums of a pipeline folder: neither safetensors nor the libraries notice a flipped bit or an altered setting."""

from __future__ import annotations

import re
from pathlib import Path

from h2d.errors import CheckpointError
from h2d.files import sha256_of, write_atomic

NAME = "SHA256SUMS"
"""``sha256sum -c SHA256SUMS`` checks it as well."""
SETTINGS, WEIGHTS = (".json", ".txt", ".model"), (".safetensors",)
"""Files that decide what a pipeline does; the model card does not."""
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_HINT = f"copy or export the folder again; if you changed it yourself, remove {NAME}"


def write_checksums(folder: Path) -> None:
    """Record the SHA-256 of every file of settings and weights under ``folder``."""
    write_atomic(folder / NAME, "".join(f"{sha256_of(folder / name)}  {name}\n" for name in _files(folder)).encode())


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of settings and weights under ``folder``, as recorded where there is a record."""
    recorded = _read(folder / NAME) if (folder / NAME).is_file() else {}
    return {name: recorded.get(name) or sha256_of(folder / name) for name in _files(folder)}


def verify_checksums(folder: Path, endings: tuple[str, ...] = SETTINGS + WEIGHTS) -> None:
    """Compare every file of those kinds; a folder without a record passes.

    Raises:
        CheckpointError: naming the first file that is missing, not recorded or not what was saved.
    """
    if not (folder / NAME).is_file():
        return
    recorded = _read(folder / NAME)
    for name in sorted(name for name in {*recorded, *_files(folder)} if name.endswith(endings)):
        if name not in recorded:
            raise CheckpointError(f"{folder / name} was not there when the pipeline was saved", _HINT)
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing", _HINT)
        if sha256_of(folder / name) != recorded[name]:
            raise CheckpointError(f"{folder / name} is not what was saved: its SHA-256 differs", _HINT)


def _files(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.suffix in SETTINGS + WEIGHTS and path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def _read(path: Path) -> dict[str, str]:
    lines = [_LINE.fullmatch(line) for line in path.read_text(errors="replace").splitlines()]
    recorded = {line[2]: line[1] for line in lines if line is not None}
    if not recorded or len(recorded) != len(lines):
        raise CheckpointError(f"{path} is no list of checksums", _HINT)
    return recorded

"""Checksums of a pipeline folder's weights: neither safetensors nor the libraries notice a flipped bit."""

from __future__ import annotations

from pathlib import Path

from h2d.errors import CheckpointError
from h2d.files import sha256_of, write_atomic

NAME = "SHA256SUMS"
"""``sha256sum -c SHA256SUMS`` checks it as well."""


def write_checksums(folder: Path) -> None:
    """Record the SHA-256 of every weight file under ``folder``."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))
    write_atomic(folder / NAME, "".join(f"{sha256_of(folder / name)}  {name}\n" for name in files).encode())


def verify_checksums(folder: Path) -> None:
    """Compare every recorded weight file; a folder without a record passes.

    Raises:
        CheckpointError: naming the first file that is missing or not what was saved.
    """
    if not (folder / NAME).is_file():
        return
    for line in (folder / NAME).read_text(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing", "copy or export the folder again")
        if sha256_of(file) != digest:
            raise CheckpointError(
                f"{file} is not what was saved: its SHA-256 differs",
                f"copy or export the folder again; if you changed the weights yourself, remove {NAME}",
            )

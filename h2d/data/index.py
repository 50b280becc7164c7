"""Where the samples of a shard begin, so that any of them can be read at any time."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
from webdataset.tariterators import base_plus_ext

from h2d.errors import DataError


def sample_offsets(path: Path, count: int) -> np.ndarray:
    """First byte of each sample of a tar file, and the file's length: int64 ``(count + 1,)``.

    Only the headers are read. A tar file with a damaged header ends there without any error, so samples are counted.

    Args:
        path: the shard.
        count: samples that its manifest promises.

    Raises:
        DataError: the file is missing or damaged, or holds more or fewer samples.
    """
    try:
        starts = _starts(path)
        length = path.stat().st_size
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise damaged(path, reason_of(error)) from error
    if len(starts) != count:
        raise damaged(path, f"holds {len(starts)} samples, its manifest says {count}")
    return np.array([*starts, length], np.int64)


def _starts(path: Path) -> list[int]:
    starts: list[int] = []
    key = None
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            prefix, _ = base_plus_ext(info.name)
            if prefix is not None and prefix != key:
                key = prefix
                starts.append(info.offset)
            tar.members.clear()  # type: ignore[attr-defined]  # or every header would stay in memory
    return starts


def damaged(path: Path, reason: str) -> DataError:
    """The error of a shard that does not hold what it should."""
    return DataError(f"{path}: {reason}", f"copy or prepare the shards again; `h2d data check {path.parent}` tells all")


def reason_of(error: Exception) -> str:
    """What is wrong, in the words of the operating system or of the tar reader."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error.args[0])

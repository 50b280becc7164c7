"""Weights from the network: resumed where a download broke off, and in place only when they are complete and right."""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tqdm import tqdm

from h2d.errors import ConfigError, SetupError
from h2d.files import make_folder, replacing, sha256_of
from h2d.weights import WEIGHTS, HubModel, WeightFile

SECONDS_OF_SILENCE = 60
"""After this a connection counts as broken."""
BLOCK = 1 << 20


def fetch(names: Sequence[str] = ()) -> list[Path]:
    """Download what is missing of ``names``, or of all weights that are not optional.

    Returns:
        where each of them is.

    Raises:
        ConfigError: there are no weights of such a name.
        SetupError: something could not be had; every such file is named, with its address and where it belongs.
    """
    known = {weights.name: weights for weights in WEIGHTS}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"there are no weights {name!r}", hint)
    wanted = [known[name] for name in names] or [weights for weights in WEIGHTS if not weights.optional]
    places, problems = [], []
    for weights in wanted:
        try:
            places.append(weights.find() or _fetch(weights))
        except SetupError as error:
            problems.append(error.message)
    if problems:
        raise SetupError("\n".join(problems), "without internet, bring the files from another machine to these places")
    return places


def _fetch(weights: WeightFile | HubModel) -> Path:
    print(f"{weights.name}: {weights.size / 1e9:.2f} GB from {weights.url}", file=sys.stderr, flush=True)
    return fetch_model(weights) if isinstance(weights, HubModel) else fetch_file(weights)


def fetch_model(model: HubModel) -> Path:
    """Download a model into the hub's cache.

    Raises:
        SetupError: the hub cannot be reached or does not have it.
    """
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(model.repository, allow_patterns=[*model.weights, *model.others])
    except Exception as error:  # the client raises those of several libraries
        reason = " ".join(str(error).split())[:200]
        raise SetupError(f"cannot fetch {model.url} into {model.place}: {reason}") from error
    folder = model.find()
    if folder is None:  # without internet, the client is content with a part of it that came earlier
        raise SetupError(f"cannot fetch {model.url} into {model.place}: {', '.join(model.weights)} did not come")
    return folder


def fetch_file(weights: WeightFile) -> Path:
    """Download a file beside its place, check it, and put it there.

    Raises:
        SetupError: the server cannot be reached, does not have the file, breaks off (what has come is kept, and the
            next call goes on from there) or sends another one, or there is no room for it.
    """
    place = weights.place
    part = place.with_name(f".{place.name}.part")
    make_folder(place.parent)
    _check_room(weights, part)
    try:
        _receive(weights, part)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:  # the server has a shorter file
            part.unlink()
        raise SetupError(f"cannot fetch {weights.url} as {place}: {_reason(error)}") from error
    if part.stat().st_size != weights.size or sha256_of(part) != weights.sha256:
        part.unlink()
        raise SetupError(f"{weights.url} is not the file that belongs at {place}: another SHA-256")
    with replacing(place) as temporary:
        os.replace(part, temporary)
    return place


def _check_room(weights: WeightFile, part: Path) -> None:
    left = weights.size - (part.stat().st_size if part.is_file() else 0)
    free = shutil.disk_usage(part.parent).free
    if left > free:
        raise SetupError(f"no room for {weights.place}: it needs {left / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def _receive(weights: WeightFile, part: Path) -> None:
    """Add to ``part`` what it lacks, as far as the server sends it."""
    have = part.stat().st_size if part.is_file() else 0
    if have >= weights.size:
        return
    request = urllib.request.Request(weights.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=SECONDS_OF_SILENCE) as response:
        resumed = response.status == 206
        with open(part, "ab" if resumed else "wb") as file, _bar(weights, have if resumed else 0) as bar:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
                if file.tell() > weights.size:
                    return
    if part.stat().st_size < weights.size:
        raise ConnectionError("the connection broke off; the same command goes on from there")


def _bar(weights: WeightFile, have: int) -> tqdm[Any]:
    """Shown on a terminal only."""
    return tqdm(total=weights.size, initial=have, unit="B", unit_scale=True, desc=weights.name, disable=None)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__

"""Files of a model: in a folder, in the hub's cache, or fetched from the hub, which is asked once and for a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

from h2d.errors import CheckpointError, SetupError

FETCH_HINT = "`h2d doctor --fetch` gets it where there is internet; a folder will do too, and preset=tiny needs neither"
SECONDS_TO_ANSWER = 5
"""The hub's client would go on asking for half a minute, and say so each time."""


def find_file(source: str, file: str) -> Path | None:
    """A file of a model folder, or of a hub id in the hub's cache; None where it is not on this machine."""
    if Path(source).is_dir():
        path = Path(source, file)
        return path if path.is_file() else None
    try:
        found = try_to_load_from_cache(source, file)
    except ValueError:  # no hub id
        return None
    return Path(found) if isinstance(found, str) else None


def fetch_file(source: str, file: str) -> Path:
    """The same, from the hub when it is not here.

    Raises:
        SetupError: a folder lacks it, or the hub cannot be reached or does not have it.
    """
    path = find_file(source, file)
    if path is not None:
        return path
    if Path(source).is_dir():
        raise SetupError(f"no {file} in {source}", f"the folder needs {Path(file).parent}/ as diffusers saves it")
    require_hub(source, file)
    return Path(hf_hub_download(source, file))


def require_hub(source: str, file: str) -> None:
    """Make sure that the hub answers and has the file, before its client starts to try again and again.

    Raises:
        SetupError: naming the file and the reason.
    """
    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            get_hf_file_metadata(hf_hub_url(source, file), timeout=SECONDS_TO_ANSWER)
            return
        except Exception as error:  # the client raises those of several libraries
            reason = first_line(error)
    raise SetupError(f"cannot fetch {source}/{file}: {reason}", FETCH_HINT)


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a configuration file of diffusers or transformers.

    Raises:
        CheckpointError: it is not a JSON object.
    """
    try:
        config = json.loads(path.read_bytes())
        if isinstance(config, dict):
            return config
        reason = f"it holds a {type(config).__name__}"
    except (OSError, ValueError) as error:
        reason = first_line(error)
    raise CheckpointError(f"{path} is no configuration: {reason}", "fetch or export the model again")


def first_line(error: Exception) -> str:
    """What an error of another library says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

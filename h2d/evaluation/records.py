"""What an evaluation depends on, written down in its folder, so that nothing else goes on there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from h2d import __version__
from h2d.data.shards import read_manifests
from h2d.errors import ConfigError, DataError
from h2d.evaluation.candidates import Candidate
from h2d.evaluation.report import flat
from h2d.evaluation.samplers import Sampler
from h2d.evaluation.selection import Selection
from h2d.experiment import Experiment
from h2d.files import write_once
from h2d.runs import RECORDED, commit, versions

SETTINGS, PROTOCOL = "settings.json", "protocol.json"
"""Written first: what was asked for; and what the loaded system says of itself."""


def settings_of(system: Candidate, experiment: Experiment, selection: Selection) -> dict[str, Any]:
    """Everything that decides the rows, as far as it is known before anything is loaded.

    Under "measured" and "data" is what belongs into the report of every system.
    """
    settings, shards = experiment.evaluation, experiment.data.shards
    content = " ".join(shard.sha256 for shard in read_manifests(shards).split(settings.split))
    numbers = " ".join(map(str, selection.numbers))
    return {
        "system": system.facts(),
        "sampling": asdict(experiment.sampling),
        "measured": {
            "seed": experiment.seed,
            "image_size": experiment.image_size,
            "metrics": asdict(experiment.metrics),
            "detector": settings.detector,
            "batch_size": settings.batch_size,
        },
        "data": {
            "shards": shards,
            "split": settings.split,
            "content": _sha256(content),
            "selection": {"samples": len(selection.numbers), "numbers": _sha256(numbers)},
            "ids": settings.ids,
            "choose": settings.choose,
        },
    }


def protocol_of(system: Candidate, sampler: Sampler) -> dict[str, Any]:
    """What a loaded system says of itself, and the versions that it runs with."""
    made_with = {"h2d": __version__, "commit": commit()} | versions(RECORDED)
    return sampler.protocol() | system.facts() | {"made_with": made_with}


def agree(path: Path, facts: dict[str, Any]) -> None:
    """Write the facts of a new evaluation; refuse a folder that holds one with others.

    Raises:
        ConfigError: naming what differs.
        DataError: the file is damaged.
    """
    text = json.dumps(facts, indent=1, sort_keys=True).encode() + b"\n"
    write_once(path, text)
    there, here = dict(flat(read_record(path))), dict(flat(json.loads(text)))
    if not (differing := [key for key in sorted(there | here) if there.get(key) != here.get(key)]):
        return
    first, *others = differing
    more = f"; also {', '.join(others)}" if others else ""
    raise ConfigError(
        f"{path.parent} holds an evaluation with other settings: {first} is {there.get(first)} there and "
        f"{here.get(first)} now{more}",
        "choose another run.name=NAME, or remove the folder",
    )


def read_record(path: Path) -> dict[str, Any]:
    """What a record holds.

    Raises:
        DataError: it is damaged.
    """
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        hint = f"remove {path.parent} and evaluate again: what it holds can no longer be told"
        raise DataError(f"{path} is damaged: {error}", hint) from error


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""Every key of ``python -m data_prep``, its default, its meaning, and the reading of ``key=value`` from a command."""

from __future__ import annotations

import dataclasses
import difflib
import os
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from h2d.errors import ConfigError

GENERATE = "python -m data_prep generate synthetic"


@dataclass(frozen=True)
class Least:
    """The smallest value of a key."""

    value: float


@dataclass(frozen=True)
class Settings:
    """What a command was told, with defaults for the rest. Every field is a key: its type, its meaning, its limit."""

    root: Annotated[Path | None, "folder of the raw data (synthetic: OUT/raw)"] = None
    out: Annotated[Path | None, "folder for everything that is made (data/DATASET)"] = None
    limit: Annotated[int | None, "use at most this many images, a fixed random choice", Least(1)] = None
    jobs: Annotated[int, "processes: 0 = one for each core, 1 = work in this one", Least(0)] = 0
    seed: Annotated[int, "generate: which synthetic people", Least(0)] = 0
    count: Annotated[int, "generate: number of synthetic people", Least(1)] = 250
    size: Annotated[int, "generate: width and height of their photographs in pixels", Least(64)] = 512
    keypoints: Annotated[Literal["mediapipe", "exact"], "who finds the 133 keypoints"] = "mediapipe"
    visibility: Annotated[float, "body keypoints below this visibility are not labelled", Least(0)] = 0.5
    masks: Annotated[
        Literal["auto", "exact", "sam", "grabcut"],
        "who segments the hands; auto: exact where the data set has masks, else sam with a checkpoint, else grabcut",
    ] = "auto"
    sam_checkpoint: Annotated[Path | None, "official SAM checkpoint, e.g. sam_vit_h_4b8939.pth"] = None
    sam_model: Annotated[Literal["auto", "vit_h", "vit_l", "vit_b"], "its architecture; auto: from its name"] = "auto"
    captions: Annotated[Literal["template", "llava"], "who writes the captions"] = "template"
    llava: Annotated[str, "folder or hub id of the LLaVA model"] = "llava-hf/llava-1.5-7b-hf"
    llava_batch: Annotated[int, "images that LLaVA describes at once", Least(1)] = 8
    device: Annotated[str, "where SAM and LLaVA run: auto, cpu, cuda, cuda:1, ..."] = "auto"
    min_mask_pixels: Annotated[int, "smallest hand mask, pixels at 512 (paper: 2500 for outpainting)", Least(0)] = 400
    max_people: Annotated[int, "reject images that show more faces than this; 0 keeps all", Least(0)] = 1
    chunk_size: Annotated[int, "images in a unit of work, the step at which a stopped stage goes on", Least(1)] = 64
    shard_size: Annotated[int, "samples in a shard", Least(1)] = 1000

    @property
    def workers(self) -> int:
        """Number of processes that ``jobs`` stands for."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.jobs or cores


class Key(NamedTuple):
    """What is known about a key."""

    kind: Any
    help: str
    least: float | None
    choices: tuple[str, ...]
    default: Any


def _keys() -> dict[str, Key]:
    defaults = {item.name: item.default for item in dataclasses.fields(Settings)}
    keys = {}
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        kind, text, *limits = get_args(hint)
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        keys[name] = Key(kind, text, limits[0].value if limits else None, choices, defaults[name])
    return keys


KEYS = _keys()


def parse(dataset: str, pairs: list[str]) -> Settings:
    """Settings for a data set from ``key=value`` words.

    Raises:
        ConfigError: a word is not ``key=value``, a key is unknown (with the nearest known one), comes twice, or has a
            value of another kind.
    """
    values: dict[str, Any] = {}
    for word in pairs:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not key=value", suggestion(name, KEYS))
        if name not in KEYS:
            raise ConfigError(f"there is no key {name!r}", suggestion(name, KEYS))
        if name in values:
            raise ConfigError(f"{name} is given twice")
        values[name] = _convert(name, text)
    out = values.get("out") or Path("data") / dataset
    root = values.get("root") or (out / "raw" if dataset == "synthetic" else None)
    return Settings(**values | {"out": out, "root": root})


def choose(what: str, name: str, known: Iterable[str]) -> str:
    """``name`` if it is one of ``known``, else a ConfigError that suggests the nearest."""
    if name not in known:
        raise ConfigError(f"there is no {what} {name!r}", suggestion(name, known))
    return name


def describe() -> str:
    """One line for each key: name, default, meaning. For ``--help``."""
    lines = []
    for name, key in KEYS.items():
        head = name if key.default is None else f"{name}={key.default}"
        choices = f" [{'|'.join(key.choices)}]" if key.choices else ""
        lines.append(f"  {head:32s} {key.help}{choices}")
    return "\n".join(lines)


def existing_root(settings: Settings, dataset: str) -> Path:
    """The folder of raw data.

    Raises:
        ConfigError: none is named, it does not exist, or it is a file.
    """
    if settings.root is None:
        raise ConfigError(f"{dataset} needs root=, the folder of the raw data", "add root=PATH to the command")
    if not settings.root.is_dir():
        problem = "is not a folder" if settings.root.exists() else "does not exist"
        hint = f"{GENERATE} out={settings.out}" if dataset == "synthetic" else "check root="
        raise ConfigError(f"root={settings.root} {problem}", hint)
    return settings.root


def suggestion(word: str, known: Iterable[str]) -> str:
    """The nearest of the known words, or all of them."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def _convert(name: str, text: str) -> Any:
    key = KEYS[name]
    if key.choices:
        if text not in key.choices:
            known = ", ".join(key.choices)
            raise ConfigError(f"{name} must be one of {known}, not {text!r}", suggestion(text, key.choices))
        return text
    kinds = get_args(key.kind) if isinstance(key.kind, types.UnionType) else (key.kind,)
    if type(None) in kinds and text in ("", "none", "null"):
        return None
    try:
        value: Any = Path(text).expanduser() if kinds[0] is Path else kinds[0](text)
    except ValueError:
        words = {int: "a whole number", float: "a number"}[kinds[0]]
        raise ConfigError(f"{name} must be {words}, not {text!r}") from None
    if key.least is not None and not value >= key.least:
        raise ConfigError(f"{name} must be at least {key.least:g}, not {text}")
    return value

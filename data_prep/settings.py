"""Every key of ``python -m data_prep``, its default, its meaning, and the reading of ``key=value`` from a command."""

from __future__ import annotations

import dataclasses
import difflib
import os
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h2d.errors import ConfigError, H2DError


def _option(default: Any, text: str, choices: tuple[str, ...] = (), least: float | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices, "least": least})


@dataclass(frozen=True)
class Settings:
    """What a command was told, with defaults for the rest. Every field is a key of the command line."""

    root: Path | None = _option(None, "folder of the raw data (synthetic: OUT/raw)")
    out: Path | None = _option(None, "folder for everything that is made (data/DATASET)")
    limit: int | None = _option(None, "use at most this many images, a fixed random choice", least=1)
    jobs: int = _option(0, "worker processes; 0 = one for each core, 1 = none, work in this process", least=0)
    seed: int = _option(0, "generate: seed of the synthetic people")
    count: int = _option(250, "generate: number of synthetic people", least=1)
    size: int = _option(512, "generate: width and height of the synthetic photographs in pixels", least=64)
    keypoints: str = _option("mediapipe", "who finds the 133 keypoints", ("mediapipe", "exact"))
    visibility: float = _option(0.5, "body keypoints below this visibility count as not labelled", least=0)
    masks: str = _option("auto", "who segments the hands (auto: exact, else sam, else grabcut)",
                         ("auto", "exact", "sam", "grabcut"))  # fmt: skip
    sam_checkpoint: Path | None = _option(None, "official SAM checkpoint, e.g. sam_vit_h_4b8939.pth")
    sam_model: str = _option("auto", "its architecture (auto: from the name of the file)",
                             ("auto", "vit_h", "vit_l", "vit_b"))  # fmt: skip
    captions: str = _option("template", "who writes the captions", ("template", "llava"))
    llava: str = _option("llava-hf/llava-1.5-7b-hf", "folder or hub id of the LLaVA model")
    llava_batch: int = _option(8, "images that LLaVA describes at once", least=1)
    device: str = _option("auto", "where SAM and LLaVA run: auto, cpu, cuda, cuda:1, ...")
    min_mask_pixels: int = _option(400, "smallest hand mask, counted at 512 px (the paper: 2500 for outpainting)", least=0)
    max_people: int = _option(1, "reject images on which more faces than this are found; 0 keeps all", least=0)
    chunk_size: int = _option(64, "images in one unit of work, the step at which a stopped stage goes on", least=1)
    shard_size: int = _option(1000, "samples in one shard", least=1)

    @property
    def workers(self) -> int:
        """Number of processes that ``jobs`` stands for."""
        return self.jobs or len(os.sched_getaffinity(0))


FIELDS = {item.name: item for item in dataclasses.fields(Settings)}
_TYPES = typing.get_type_hints(Settings)


def parse(dataset: str, pairs: list[str]) -> Settings:
    """Settings for a data set from ``key=value`` words.

    Raises:
        ConfigError: a word is not ``key=value``, a key is unknown (with the nearest known one), comes twice, or has a
            value of another kind.
    """
    values: dict[str, Any] = {}
    for word in pairs:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not key=value", _suggestion(key, FIELDS))
        if key not in FIELDS:
            raise ConfigError(f"there is no key {key!r}", _suggestion(key, FIELDS))
        if key in values:
            raise ConfigError(f"{key} is given twice")
        values[key] = _convert(key, text)
    out = values.get("out") or Path("data") / dataset
    root = values.get("root") or (out / "raw" if dataset == "synthetic" else None)
    return Settings(**values | {"out": out, "root": root})


def choose(kind: str, name: str, known: tuple[str, ...]) -> str:
    """``name`` if it is one of ``known``, else a ConfigError that suggests the nearest."""
    if name not in known:
        raise ConfigError(f"{name!r} is not a {kind}", _suggestion(name, known))
    return name


def describe() -> str:
    """One line for each key: name, default, meaning. For ``--help``."""
    lines = []
    for item in FIELDS.values():
        default = "" if item.default is None else f"={item.default}"
        values = f" [{'|'.join(item.metadata['choices'])}]" if item.metadata["choices"] else ""
        lines.append(f"  {item.name + default:34s}{item.metadata['help']}{values}")
    return "\n".join(lines)


def _convert(key: str, text: str) -> Any:
    kind, meta = _TYPES[key], FIELDS[key].metadata
    optional = isinstance(kind, types.UnionType)
    if optional:
        if text in ("null", "none", ""):
            return None
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    try:
        value = Path(text).expanduser() if kind is Path else kind(text)
    except ValueError:
        words = {int: "a whole number", float: "a number"}[kind]
        raise ConfigError(f"{key} must be {words}, not {text!r}") from None
    if meta["choices"] and value not in meta["choices"]:
        raise ConfigError(f"{key} must be one of {', '.join(meta['choices'])}, not {text!r}",
                          _suggestion(text, meta["choices"]))  # fmt: skip
    if meta["least"] is not None and not value >= meta["least"]:
        raise ConfigError(f"{key} must be at least {meta['least']}, not {text}")
    return value


def _suggestion(word: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def existing_root(settings: Settings, dataset: str) -> Path:
    """The folder of raw data.

    Raises:
        H2DError: none is named, or it does not exist, or it is a file.
    """
    generate = f"python -m data_prep generate synthetic out={settings.out}"
    if settings.root is None:
        raise ConfigError(f"{dataset} needs root=, the folder of the raw data", f"add root=PATH to the command")
    if not settings.root.is_dir():
        problem = "is not a folder" if settings.root.exists() else "does not exist"
        hint = generate if dataset == "synthetic" else "check root="
        raise H2DError(f"root={settings.root} {problem}", hint)
    return settings.root

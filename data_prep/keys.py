"""``key=value``: which keys there are, how words and the lines of a preset become settings, and the help on them."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from data_prep.settings import Settings
from data_prep.sources import NAMES, get_source
from h2d.config import read_settings
from h2d.errors import ConfigError
from h2d.experiment_files import find_data_preset
from h2d.slices import Slice


class Key(NamedTuple):
    """What is known about a key."""

    kind: Any
    help: str
    least: float | None
    choices: tuple[str, ...]
    default: Any


def _keys(cls: type) -> dict[str, Key]:
    defaults = {item.name: item.default for item in dataclasses.fields(cls)}
    keys = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        kind, text, *limits = get_args(hint)
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        keys[name] = Key(kind, text, limits[0].value if limits else None, choices, defaults[name])
    return keys


KEYS = _keys(Settings)


def parse(dataset: str, pairs: Sequence[str]) -> Settings:
    """Settings for a data set from ``key=value`` words, over those of a preset, over the defaults.

    Raises:
        ConfigError: a word is not ``key=value``, a key is unknown (with the nearest known one), comes twice, or has a
            value of another kind; or there is no such preset.
    """
    options_type = get_source(dataset).options_type
    own = _keys(options_type)
    known = KEYS | own
    values: dict[str, Any] = {}
    for word in pairs:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not key=value", suggestion(name, known))
        if name in values:
            raise ConfigError(f"{name} is given twice")
        values[name] = _convert(name, known, text)
    if preset := values.get("preset"):
        values = _preset(preset, dataset, known) | values
    out = values.get("out") or Path("data") / dataset
    root = values.get("root") or (out / "raw" if dataset == "synthetic" else None)
    options = options_type(**{name: values.pop(name) for name in own if name in values})
    return Settings(**values | {"out": out, "root": root, "options": options})


def _preset(file: str, dataset: str, known: Mapping[str, Key]) -> dict[str, Any]:
    """What a file of ``configs/data`` says about a data set."""
    values: dict[str, Any] = {}
    for line in read_settings(find_data_preset(file)):
        section, _, name = line.key.partition(".")
        choose("data set", section, NAMES, line.origin)
        if section == dataset:
            values[name] = _convert(name, known, str(line.value), line.origin)
    return values


def choose(what: str, name: str, known: Iterable[str], where: object = None) -> str:
    """``name`` if it is one of ``known``, else a ConfigError that suggests the nearest."""
    if name not in known:
        raise ConfigError(f"{_place(where)}there is no {what} {name!r}", suggestion(name, known))
    return name


def describe(keys: dict[str, Key] = KEYS) -> str:
    """One line for each key: name, default, meaning. For ``--help``."""
    lines = []
    for name, key in keys.items():
        head = name if key.default is None else f"{name}={key.default}"
        choices = f" [{'|'.join(key.choices)}]" if key.choices else ""
        lines.append(f"  {head:32s} {key.help}{choices}")
    return "\n".join(lines)


def describe_own(datasets: Iterable[str]) -> str:
    """The keys that some data sets add, each under the name of its data set."""
    own = {name: _keys(get_source(name).options_type) for name in datasets}
    return "\n\n".join(f"keys of {name}:\n{describe(keys)}" for name, keys in own.items() if keys)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The nearest of the known words, or all of them."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


_READERS: dict[type, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    Path: lambda text: Path(text).expanduser(),
    Slice: Slice.read,
}


def _convert(name: str, known: Mapping[str, Key], text: str, where: object = None) -> Any:
    """The value of a key from its text; ``where`` is the line of a file that it comes from."""
    if name not in known:
        raise ConfigError(f"{_place(where)}there is no key {name!r}", suggestion(name, known))
    key = known[name]
    if key.choices:
        if text not in key.choices:
            allowed = ", ".join(key.choices)
            raise ConfigError(
                f"{_place(where)}{name} must be one of {allowed}, not {text!r}", suggestion(text, key.choices)
            )
        return text
    kinds = get_args(key.kind) if isinstance(key.kind, types.UnionType) else (key.kind,)
    if type(None) in kinds and text in ("", "none", "null"):
        return None
    try:
        value: Any = _READERS[kinds[0]](text)
    except ValueError:
        words = {int: "a whole number", float: "a number", Slice: "K/N with 0 <= K < N, for example 0/16"}[kinds[0]]
        raise ConfigError(f"{_place(where)}{name} must be {words}, not {text!r}") from None
    if key.least is not None and not value >= key.least:
        raise ConfigError(f"{_place(where)}{name} must be at least {key.least:g}, not {text}")
    return value


def _place(where: object) -> str:
    return f"{where}: " if where else ""

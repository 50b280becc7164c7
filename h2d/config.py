"""From an experiment's name to a checked :class:`Experiment`: YAML layers, presets, ``key=value`` (OmegaConf's door).

Weakest first: the defaults in :mod:`h2d.experiment`, the files that a file ``extends``, its ``preset``, the file
itself; then ``preset=NAME``, or ``preset=ONE,OTHER``, of the command line and its other ``key=value`` pairs. All
mistakes are reported at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from h2d.errors import ConfigError
from h2d.experiment import MISSING, Experiment
from h2d.experiment_files import CONFIG_ROOT, find, find_preset, shown
from h2d.experiment_rules import problems

__all__ = [
    "CONFIG_ROOT",
    "Composed",
    "Experiment",
    "Origin",
    "Setting",
    "compose",
    "from_plain",
    "read_settings",
    "to_plain",
    "to_yaml",
]

_RESOLVER = re.compile(r"\$\{.*:", re.DOTALL)


class Origin(NamedTuple):
    """Where a value was set."""

    layer: str
    line: int | None = None

    def __str__(self) -> str:
        return self.layer if self.line is None else f"{self.layer}:{self.line}"


class Composed(NamedTuple):
    """A checked experiment and, for every setting that is not a default, where it was set."""

    experiment: Experiment
    origins: dict[str, Origin]


class Setting(NamedTuple):
    """A value of a file or a command line, under its dotted key."""

    key: str
    value: Any
    origin: Origin


def compose(name: str, overrides: Iterable[str] = (), root: Path = CONFIG_ROOT) -> Composed:
    """Merge an experiment and check it.

    Args:
        name: an experiment of ``root`` (``hand`` is ``configs/hand.yaml``) or the path of a YAML file.
        overrides: ``key=value`` pairs, the strongest layer.

    Raises:
        ConfigError: naming every unknown key, wrong value and broken rule with its file and line.
    """
    command_line, complaints = _parse_overrides(overrides)
    path = find(name, root)
    chosen = [setting for setting in command_line if setting.key == "preset"]
    settings = _collect(path, root, complaints, use_presets=not chosen)
    for preset in _presets(chosen[-1].value, root) if chosen else []:
        settings += _collect(preset, root, complaints, use_presets=True)
    return _merge(path.stem, settings + command_line, complaints)


def _merge(name: str, settings: list[Setting], complaints: list[str]) -> Composed:
    config, origins, refused = _writable(OmegaConf.structured(Experiment)), {}, set()
    for key, value, origin in settings:
        if complaint := _set(config, key, value):
            complaints.append(f"{origin}: {key}: {complaint}")
            refused.add(key)
        origins[key] = origin
    missing = [key for key, value in _flatten(_plain(config)) if value == MISSING]
    complaints += [f"{name}: {key} is required" for key in missing if key not in refused]
    if not complaints:
        experiment = _resolved(config, name, complaints)
    if not complaints:
        complaints += [f"{origins.get(key, name)}: {key} {text}" for key, text in problems(experiment)]
    if complaints:
        raise ConfigError("\n".join(complaints), _hint(complaints))
    return Composed(experiment, origins)


def _set(config: Any, key: str, value: Any) -> str:
    """Give a setting a value; returns what is wrong with it."""
    if isinstance(value, str) and _RESOLVER.search(value):
        return f"{value!r} is refused, since what it reads would end up in checkpoints"
    try:
        OmegaConf.update(config, key, value, merge=True)
    except (OmegaConfBaseException, TypeError, ValueError, AttributeError, AssertionError) as error:
        return _reason(key, value, error)
    return ""


def _resolved(config: Any, name: str, complaints: list[str]) -> Experiment:
    """The finished object; references such as ``${run.name}`` are followed here and may lead nowhere."""
    try:
        if config.run.name is None:
            config.run.name = name
        experiment = OmegaConf.to_object(config)
    except (OmegaConfBaseException, RecursionError) as error:
        complaints.append(f"{name}: {str(error).splitlines()[0]}")
        return Experiment()
    assert isinstance(experiment, Experiment)
    return experiment


def _hint(complaints: list[str]) -> str:
    if any("data.shards is required" in text for text in complaints):
        return "name the data, data.shards=FOLDER; `make data-synthetic` makes some"
    return "`h2d config explain` lists every key with its default"


def _writable(config: Any) -> Any:
    """Lift the write protection that frozen dataclasses bring along, for as long as the layers are merged."""
    OmegaConf.set_readonly(config, False)
    for key in config:
        if not OmegaConf.is_missing(config, key) and OmegaConf.is_config(config[key]):
            _writable(config[key])
    return config


def _reason(key: str, value: Any, error: Exception) -> str:
    known = dict(_fields(Experiment))
    if key in known or any(name.startswith(f"{key}.") for name in known):
        return str(error).splitlines()[0] if str(error) else f"{value!r} does not fit"
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or _same_last_part(key, known)
    return "there is no such key" + (f"; did you mean {close[0]}?" if close else "")


def _same_last_part(key: str, known: Iterable[str]) -> list[str]:
    """``lr`` for ``optim.lr``, ``max_step`` for ``trainer.max_steps``."""
    last = {name.rpartition(".")[2]: name for name in known}
    return [last[name] for name in difflib.get_close_matches(key.rpartition(".")[2], last, n=1, cutoff=0.7)]


def _fields(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for item in fields(cls):
        value = item.default_factory() if callable(item.default_factory) else item.default
        if is_dataclass(value):
            yield from _fields(type(value), f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value


# --- layers ------------------------------------------------------------------------------------------------------


def _collect(
    path: Path, root: Path, complaints: list[str], *, use_presets: bool, seen: tuple[Path, ...] = ()
) -> list[Setting]:
    """Settings of a file, after those of the files it extends and of the preset it names."""
    if path in seen:
        raise ConfigError(" -> ".join(shown(item) for item in (*seen, path)) + ": extends itself")
    extends: Any = []
    preset, own = None, []
    for setting in read_settings(path):
        if setting.key == "extends":
            extends = [setting.value] if isinstance(setting.value, str) else setting.value
        else:
            own.append(setting)
        if setting.key == "preset" and use_presets and setting.value:
            preset = setting
    if not isinstance(extends, list) or not all(isinstance(parent, str) for parent in extends):
        complaints.append(f"{shown(path)}: extends takes a name or a list of names")
        extends = []
    parents = [find(parent, root) for parent in extends] + (_presets(preset.value, root) if preset else [])
    below = (_collect(item, root, complaints, use_presets=use_presets, seen=(*seen, path)) for item in parents)
    return [setting for layer in below for setting in layer] + own


def _presets(names: Any, root: Path) -> list[Path]:
    """Files of one preset or of several: ``ddp8,24gb``; the later ones are stronger."""
    return [find_preset(name, root) for name in str(names).replace(" ", "").split(",") if name]


def read_settings(path: Path) -> list[Setting]:
    """Every leaf of a YAML file with the line it stands on."""
    try:
        text = path.read_text(encoding="utf-8")
        values = OmegaConf.to_container(OmegaConf.create(text)) if text.strip() else {}
        lines = dict(_lines(yaml.compose(text)))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{shown(path)}{line}: {error.problem or error.context}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{shown(path)}: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{shown(path)}: holds a list where `key: value` lines are expected")
    return [Setting(key, value, Origin(shown(path), lines.get(key))) for key, value in _flatten(values)]


def _lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{getattr(key, 'value', '')}"
            yield name, key.start_mark.line + 1
            yield from _lines(value, f"{name}.")


def _flatten(values: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _parse_overrides(overrides: Iterable[str]) -> tuple[list[Setting], list[str]]:
    origin, settings, complaints = Origin("command line"), [], []
    seen: set[str] = set()
    for item in overrides:
        key, sign, text = item.partition("=")
        if not sign or not key:
            complaints.append(f"{origin}: {item!r} is not of the form key=value")
            continue
        if key in seen:
            complaints.append(f"{origin}: {key} is given twice: keep one; a value with braces needs quotes around it")
        seen.add(key)
        try:
            value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore
        except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            complaints.append(f"{origin}: {key}: {str(error).splitlines()[0]}")
            continue
        value = "" if value is None and key == "preset" else value
        pairs = _flatten({key: value}) if isinstance(value, dict) and value else [(key, value)]
        settings += [Setting(name, leaf, origin) for name, leaf in pairs]
    return settings, complaints


# --- out ---------------------------------------------------------------------------------------------------------


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """The experiment as nested dicts of plain values, which a checkpoint can hold and load again safely."""
    return _plain(OmegaConf.structured(experiment))


def _plain(config: Any) -> dict[str, Any]:
    container = OmegaConf.to_container(config)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def from_plain(values: dict[str, Any]) -> Experiment:
    """The inverse of :func:`to_plain`.

    Raises:
        ConfigError: the values are not an experiment of this version.
    """
    try:
        experiment = OmegaConf.to_object(OmegaConf.merge(_writable(OmegaConf.structured(Experiment)), values))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    assert isinstance(experiment, Experiment)
    return experiment


def to_yaml(experiment: Experiment, origins: dict[str, Origin] | None = None) -> str:
    """The experiment as YAML; with ``origins``, each line that is not a default says where it was set."""
    text = OmegaConf.to_yaml(OmegaConf.structured(experiment))
    if not origins:
        return text
    lines: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], line.strip().partition(":")[0]]
        origin = origins.get(".".join(path))
        lines.append(f"{line}  # {origin}" if origin else line)
    return "\n".join(lines) + "\n"

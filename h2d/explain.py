"""What `h2d config` prints about experiments."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from h2d.config import Composed, Origin, compose
from h2d.experiment import MISSING, Experiment, leaves
from h2d.experiment_files import CONFIG_ROOT, experiments


def explain(prefix: str = "") -> str:
    """Every setting whose key starts with ``prefix``: default and help text."""
    blocks = []
    for key, default, text in _settings(Experiment):
        if key.startswith(prefix):
            shown = "required" if default is MISSING or default == MISSING else _shown(default)
            blocks.append(f"{key} = {shown}" + "".join(f"\n    {line}" for line in textwrap.wrap(text, 96)))
    return "\n".join(blocks)


def listing(root: Path = CONFIG_ROOT) -> str:
    """Experiments and presets with the first line of their comment."""
    names = experiments(root)
    width = max(map(len, names), default=0)
    return "\n".join(f"{name:<{width}}  {_comment(root / f'{name}.yaml')}" for name in names)


def diff(first: Composed, second: Composed) -> str:
    """Settings that differ, with where each was set."""
    one, two = dict(leaves(first.experiment)), dict(leaves(second.experiment))
    lines = []
    for key in one:
        if one[key] != two[key]:
            sides = (_side(one[key], first.origins.get(key)), _side(two[key], second.origins.get(key)))
            lines.append(f"{key}: {sides[0]} | {sides[1]}")
    return "\n".join(lines) or "no difference"


def for_display(name: str, overrides: list[str]) -> Composed:
    """Compose an experiment to look at: without data it shows what data.shards stands for instead of failing."""
    given = any(item.startswith("data.shards=") for item in overrides)
    return compose(name, overrides if given else ["data.shards=SHARDS", *overrides])


def _side(value: Any, origin: Origin | None) -> str:
    return f"{_shown(value)} ({origin or 'default'})"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _settings(cls: type, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    texts = _field_texts(cls)
    for item in fields(cls):
        default = item.default_factory() if callable(item.default_factory) else item.default
        if is_dataclass(default):
            yield from _settings(type(default), f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", default, texts.get(item.name, "")


def _field_texts(cls: type) -> dict[str, str]:
    """The string under each field, which Python itself throws away."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for node, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(below, ast.Expr):
            texts[node.target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return texts

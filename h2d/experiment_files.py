"""Where experiments and presets lie, and what to suggest when a name is none of them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from h2d.errors import ConfigError

CONFIG_ROOT = Path(__file__).resolve().parent.parent / "configs"
"""The shipped experiments; the folder lies beside the package in a checkout and in an installation alike."""


def experiments(root: Path = CONFIG_ROOT) -> list[str]:
    """Names of the experiments and presets under ``root``; what lies in ``data`` is for the preparation of data."""
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
    return sorted(name for name in names if not name.startswith("data/"))


def find_preset(name: Any, root: Path) -> Path:
    """File of a preset.

    Raises:
        ConfigError: there is none of that name; the hint suggests another.
    """
    return find(f"presets/{name}", root, what="preset")


def find_data_preset(name: str, root: Path = CONFIG_ROOT) -> Path:
    """File with keys of ``python -m data_prep`` for each data set, given by its name in ``data`` or by its path.

    Raises:
        ConfigError: there is none of that name.
    """
    for path in (root / "data" / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    names = sorted(path.stem for path in (root / "data").glob("*.yaml"))
    raise ConfigError(
        f"no preset {name!r} in {shown(root / 'data')}, and no such file", f"there is: {', '.join(names)}"
    )


def find(name: str, root: Path, what: str = "experiment") -> Path:
    """File of an experiment, given by its name in ``root`` or by its path.

    Raises:
        ConfigError: there is none; the hint suggests another.
    """
    for path in (root / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    names = [known for known in experiments(root) if known.startswith("presets/") == (what == "preset")]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0].removeprefix('presets/')}?" if close else f"there is: {', '.join(names)}"
    raise ConfigError(f"no {what} {name.removeprefix('presets/')!r} in {shown(root)}, and no such file", hint)


def shown(path: Path) -> str:
    """The path as a user would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

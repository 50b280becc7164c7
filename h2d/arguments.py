"""Commands of the argument tree, and the ``key=value`` settings that some of them take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from h2d.errors import ConfigError

Command = Callable[[argparse.Namespace], None]


def command(commands: argparse._SubParsersAction, name: str, run: Command, text: str) -> argparse.ArgumentParser:
    """Add a command that takes no settings.

    Args:
        commands: of the tree.
        name: on the command line.
        run: what it does.
        text: one line of help.
    """
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    # SUPPRESS: without it, a sub-command's default would undo `h2d --debug COMMAND`.
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(command=run, takes_overrides=False)
    return parser


def takes_overrides(parser: argparse.ArgumentParser) -> None:
    """Let a command take ``key=value`` settings, when all its arguments are there."""
    parser.set_defaults(takes_overrides=True)
    parser.usage = f"{parser.format_usage().removeprefix('usage: ').rstrip()} [key=value ...]"


def overrides_of(options: argparse.Namespace, leftovers: Sequence[str]) -> list[str]:
    """``key=value`` pairs from what argparse left over; anything else there is a mistake.

    Raises:
        ConfigError: naming it.
    """
    for item in leftovers:
        if item.startswith("-"):
            name = item.lstrip("-").partition("=")[0]
            raise ConfigError(f"unknown option {item}", f"did you mean {name}=VALUE? settings take no dashes")
        if not options.takes_overrides or "=" not in item:
            raise ConfigError(f"unexpected argument {item!r}", "settings have the form key=value")
    return list(leftovers)

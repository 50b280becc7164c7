"""Captions written by hand for whole sequences: gender, skin tone, look of the hands (Section IV-A).

The file is a JSON object of sequence to text. A sequence is named from the whole to the part, with slashes, and the
most specific name speaks: ``{"train/Capture3": "a man's hands", "train/Capture3/0390_dh_touchROM": "..."}``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from h2d.errors import ConfigError


class SequenceCaptions:
    """What the side file says; without a file it says nothing.

    Args:
        path: the file that ``sequence_captions=`` names, or None.

    Raises:
        ConfigError: the file is missing, or not an object of names to texts.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._texts = {} if path is None else _read(path)

    def of(self, sequence: str) -> str | None:
        """The caption of a sequence, one line, or None."""
        return next((self._texts[name] for name in _with_wholes(sequence) if name in self._texts), None)

    def check(self, sequences: Collection[str], unread: Collection[str] = ()) -> None:
        """See that every name of the file is a sequence, or the whole that one is part of.

        Args:
            sequences: all sequences of the data set.
            unread: wholes that were not looked into, whose names are taken on trust.

        Raises:
            ConfigError: a name is none of them. Names it.
        """
        known = {name for sequence in sequences for name in _with_wholes(sequence)}
        for name in self._texts:
            if name not in known and not any(whole in unread for whole in _with_wholes(name)):
                hint = f"the data set has for example {min(sequences, default='no sequence at all')}"
                raise ConfigError(f"sequence_captions={self.path}: {name!r} matches no sequence", hint)


def _with_wholes(sequence: str) -> list[str]:
    """A name and those of the wholes that it is part of, the most specific first."""
    place = PurePosixPath(sequence)
    return [str(name) for name in (place, *place.parents)[:-1]]


def _read(path: Path) -> Mapping[str, str]:
    hint = 'it must be a JSON object such as {"train/Capture3": "a woman\'s hands, dark skin"}'
    try:
        texts = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"sequence_captions={path} cannot be read: {error.strerror}", hint) from error
    except ValueError as error:
        raise ConfigError(f"sequence_captions={path} is not JSON: {error}", hint) from error
    if not isinstance(texts, dict) or not all(isinstance(text, str) and text.strip() for text in texts.values()):
        raise ConfigError(f"sequence_captions={path} does not map names to texts", hint)
    return {name.strip("/"): " ".join(text.split()) for name, text in texts.items()}

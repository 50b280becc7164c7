from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from data_prep.settings import KEYS, Settings, choose, describe, existing_root, parse
from h2d.errors import ConfigError


def test_values_get_the_type_of_their_key() -> None:
    settings = parse("folder", ["root=a", "out=b/c", "limit=7", "visibility=0.25", "masks=sam", "llava=org/name"])
    assert settings == Settings(
        root=Path("a"), out=Path("b/c"), limit=7, visibility=0.25, masks="sam", llava="org/name"
    )  # fmt: skip


def test_defaults_depend_on_the_data_set() -> None:
    assert parse("synthetic", []).root == Path("data/synthetic/raw")
    assert parse("synthetic", ["out=x"]).root == Path("x/raw")
    assert parse("folder", []).root is None
    assert parse("folder", ["limit=none"]).limit is None


def test_zero_jobs_are_all_cores() -> None:
    assert Settings(jobs=0).workers >= 1
    assert Settings(jobs=3).workers == 3


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("limt=3", "no key 'limt'", "did you mean limit?"),
        ("zzzzzz=3", "no key 'zzzzzz'", "known: root, out"),
        ("limit", "'limit' is not key=value", "did you mean limit?"),
        ("limit=three", "limit must be a whole number, not 'three'", ""),
        ("limit=1.5", "limit must be a whole number", ""),
        ("limit=0", "limit must be at least 1, not 0", ""),
        ("visibility=high", "visibility must be a number", ""),
        ("visibility=nan", "visibility must be at least 0", ""),
        ("masks=smae", "masks must be one of auto, exact, sam, grabcut, not 'smae'", "did you mean sam?"),
    ],
)
def test_mistakes_are_named_with_a_suggestion(word: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("folder", [word])
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_key_given_twice() -> None:
    with pytest.raises(ConfigError, match="jobs is given twice"):
        parse("folder", ["jobs=1", "jobs=2"])


def test_every_key_is_described() -> None:
    assert set(KEYS) == {item.name for item in dataclasses.fields(Settings)}
    assert all(key.help for key in KEYS.values())
    assert all(f"\n  {name}" in f"\n{describe()}" for name in KEYS)


def test_roots(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder needs root="):
        existing_root(parse("folder", []), "folder")
    with pytest.raises(ConfigError, match="does not exist") as caught:
        existing_root(parse("synthetic", [f"out={tmp_path}"]), "synthetic")
    assert caught.value.hint == f"python -m data_prep generate synthetic out={tmp_path}"
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        existing_root(parse("folder", [f"root={file}"]), "folder")


def test_choose_suggests() -> None:
    assert choose("stage", "pack", ("pack",)) == "pack"
    with pytest.raises(ConfigError, match="no stage 'pak'"):
        choose("stage", "pak", ("pack", "index"))

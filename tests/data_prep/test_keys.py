from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from data_prep.keys import KEYS, choose, describe, describe_own, parse
from data_prep.settings import Settings, existing_root
from data_prep.sources import NAMES, Options, get_source
from h2d.errors import ConfigError
from h2d.slices import Slice


def test_values_get_the_type_of_their_key() -> None:
    settings = parse("folder", ["root=a", "out=b/c", "limit=7", "visibility=0.25", "masks=sam", "llava=org/name"])
    assert settings == Settings(
        root=Path("a"), out=Path("b/c"), limit=7, visibility=0.25, masks="sam", llava="org/name", options=Options()
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
        ("slice=3", "slice must be K/N with 0 <= K < N", ""),
        ("slice=4/4", "slice must be K/N", ""),
        ("preset=papr", "no preset 'papr' in configs/data", "there is: paper"),
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
    assert set(KEYS) == {item.name for item in dataclasses.fields(Settings)} - {"options"}
    assert all(key.help for key in KEYS.values())
    assert all(f"\n  {name}" in f"\n{describe()}" for name in KEYS)


def test_the_keys_of_a_data_set_are_its_own() -> None:
    for name in NAMES:
        own = {item.name for item in dataclasses.fields(get_source(name).options_type)}
        assert not own & set(KEYS)
        assert all(f"\n  {key}" in describe_own([name]) for key in own)


def test_a_share_of_the_work() -> None:
    assert parse("folder", ["slice=3/16"]).slice == Slice(3, 16)
    assert parse("folder", []).slice is None


def test_the_data_of_the_paper_add_up() -> None:
    taken = {name: parse(name, ["preset=paper"]).take for name in ("interhand", "reinterhand", "hagrid", "laion_human")}
    assert taken["interhand"]["train"] + taken["reinterhand"]["train"] + taken["hagrid"]["train"] == 193_300
    assert taken["laion_human"]["train"] == 36_500
    assert taken["hagrid"]["test"] == 12_000
    assert parse("laion_human", ["preset=paper"]).min_mask_pixels == 2500
    assert parse("laion_human", ["preset=paper", "min_mask_pixels=9"]).min_mask_pixels == 9, "the command is stronger"


def test_a_mistake_in_a_preset_is_named_with_its_line(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("folder:\n  limit: 3\n  limt: 4\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:3: there is no key 'limt'"):
        parse("folder", [f"preset={preset}"])
    preset.write_text("foldr:\n  limit: 3\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:2: there is no data set 'foldr'"):
        parse("folder", [f"preset={preset}"])


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

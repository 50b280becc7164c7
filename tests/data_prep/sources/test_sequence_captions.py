from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.sources.sequence_captions import SequenceCaptions
from h2d.errors import ConfigError

SEQUENCES = {"train/Capture3/0390_dh_touchROM", "train/Capture3/0266_dh_pray", "train/Capture30/0266_dh_pray"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"train/Capture3": "pale  hands\n", "train/Capture3/0390_dh_touchROM": "wet hands"}))
    return path


def test_the_most_specific_name_speaks(file: Path) -> None:
    captions = SequenceCaptions(file)
    assert captions.of("train/Capture3/0390_dh_touchROM") == "wet hands"
    assert captions.of("train/Capture3/0266_dh_pray") == "pale hands"
    assert captions.of("train/Capture30/0266_dh_pray") is None, "a whole is a folder, not the start of a name"
    assert captions.of("val/Capture3/0266_dh_pray") is None
    captions.check(SEQUENCES)


def test_without_a_file_nothing_is_said() -> None:
    assert SequenceCaptions(None).of("train/Capture3") is None
    SequenceCaptions(None).check(set())


def test_a_name_that_matches_nothing_is_named(file: Path) -> None:
    captions = SequenceCaptions(file)
    with pytest.raises(ConfigError, match="'train/Capture3/0390_dh_touchROM' matches no sequence") as caught:
        captions.check({"train/Capture3/0266_dh_pray"})
    assert "train/Capture3/0266_dh_pray" in caught.value.hint
    captions.check({"test/Capture0/a"}, unread={"train"})
    with pytest.raises(ConfigError, match="'train/Capture3' matches no sequence"):
        captions.check({"test/Capture0/a"}, unread={"val"})


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[]", "does not map"), ('{"a": 3}', "does not map"), ('{"a": " "}', "does not map")],
)
def test_a_file_of_another_kind(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"sequence_captions=.* {message}"):
        SequenceCaptions(path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        SequenceCaptions(tmp_path / "other.json")

"""The measurement runs; what it measures is a matter of an idle machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep import index
from data_prep.job import Job
from data_prep.measure_keypoints import main, rate
from data_prep.settings import Settings
from h2d.errors import ConfigError


def test_a_rate_counts_images_after_the_first_chunk(people: Path, tmp_path: Path) -> None:
    job = Job("folder", Settings(), people, tmp_path)
    index.run(job)
    assert 0 < rate(job, 24, 1) < 1000


def test_wrong_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder of photographs"):
        main(["/does/not/exist"])
    with pytest.raises(ConfigError, match="'rounds=0' is none of"):
        main([str(tmp_path), "rounds=0"])

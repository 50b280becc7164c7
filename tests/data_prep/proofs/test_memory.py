"""MediaPipe leaks: the memory of a worker process stays bounded (row 13)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_prep.measure_keypoints import memory_growth
from data_prep.processes import pool
from h2d.annotators.pose import HolisticPose
from h2d.images import load_image


def test_a_worker_does_not_grow(people: Path, long: bool, figures: Callable[[str], None]) -> None:
    images = 500 if long else 60
    growth = memory_growth(sorted(people.glob("*/*.jpg")), images)
    figures(f"{growth:+.0f} MiB from image 10 to {images}")
    assert growth < 60


def test_workers_of_a_process_that_has_used_mediapipe(people: Path) -> None:
    """A forked child of it would abort or hang."""
    picture = min(people.glob("*/*.jpg"))
    here = bodies(picture)
    with pool(1) as executor:
        assert executor.submit(bodies, picture).result(timeout=60) == here == 1


def bodies(picture: Path) -> int:
    with HolisticPose() as finder:
        return int("body" in finder.detect(load_image(picture)).found)

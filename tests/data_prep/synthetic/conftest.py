"""Rendered people that several tests look at."""

from __future__ import annotations

import pytest

from data_prep.synthetic import GESTURES, Rendered, render_person

SIZE = 192


@pytest.fixture(scope="session")
def people() -> list[Rendered]:
    """Two people for each gesture."""
    return [render_person(4, index, SIZE, supersampling=1) for index in range(2 * len(GESTURES))]

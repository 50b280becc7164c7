from __future__ import annotations

from functools import lru_cache

import pytest

from data_prep.synthetic import Rendered, render_person


@lru_cache
def _person(index: int) -> Rendered:
    return render_person(0, index, 512, supersampling=1)


@pytest.fixture(scope="session")
def two_hands() -> Rendered:
    """A rendered person who shows both hands, apart from each other."""
    both = (person for person in map(_person, range(30)) if None not in person.gestures.values())
    return next(person for person in both if person.encounter is None)

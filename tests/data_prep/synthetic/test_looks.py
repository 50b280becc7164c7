from __future__ import annotations

import numpy as np
import pytest

from data_prep.synthetic.colours import colour_word, linear
from data_prep.synthetic.looks import draw_clothes, draw_expression, draw_looks

NAMED = {
    "black": (10, 10, 12), "white": (240, 240, 238), "grey": (128, 126, 130), "red": (200, 20, 25),
    "orange": (240, 140, 20), "yellow": (240, 225, 30), "green": (40, 160, 60), "turquoise": (60, 200, 200),
    "blue": (30, 60, 200), "purple": (130, 40, 200), "pink": (235, 110, 190), "brown": (110, 65, 30),
    "beige": (222, 200, 165), "olive": (110, 105, 40),
}  # fmt: skip


@pytest.mark.parametrize(("word", "rgb"), NAMED.items())
def test_colours_have_their_everyday_names(word: str, rgb: tuple[int, int, int]) -> None:
    assert colour_word(linear(np.array(rgb) / 255)) == word


def test_looks_cover_men_and_women_of_every_skin_tone() -> None:
    looks = [draw_looks(np.random.default_rng(k)) for k in range(300)]
    assert {"light", "tan", "brown", "dark"} == {look.skin_word for look in looks}
    assert 0.4 < np.mean([look.sex == "man" for look in looks]) < 0.6
    assert {"bald", "short black hair", "long black hair", "long blond hair"} <= {look.hair for look in looks}
    assert not any(look.beard for look in looks if look.sex == "woman")


def test_the_shirt_is_named_after_its_main_colour() -> None:
    for k in range(50):
        clothes = draw_clothes(np.random.default_rng(k))
        assert clothes.top == f"{clothes.pattern} {colour_word(clothes.colours[0])} shirt"
        assert clothes.colours.min() >= 0
        assert clothes.colours.max() <= 1


def test_expressions_are_shares() -> None:
    weights = np.array([draw_expression(np.random.default_rng(k)) for k in range(100)])
    assert weights.min() >= 0
    assert weights.max() <= 1

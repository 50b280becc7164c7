"""Colours: random ones, linear light <-> sRGB, and the plain word that a caption uses."""

from __future__ import annotations

import colorsys

import numpy as np

GAMMA = 2.2
_HUES = (
    (14, "red"),
    (42, "orange"),
    (68, "yellow"),
    (160, "green"),
    (196, "turquoise"),
    (255, "blue"),
    (290, "purple"),
    (338, "pink"),
    (361, "red"),
)


def linear(rgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] -> linear light, float32."""
    return (np.asarray(rgb, np.float32) ** np.float32(GAMMA)).astype(np.float32)


def random_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """(3,) linear colour of random hue; ``saturation`` = (second Beta parameter, maximum), ``value`` = (low, high)."""
    hue, spread, brightness = rng.random(), rng.beta(1, saturation[0]) * saturation[1], rng.uniform(*value)
    return linear(np.array(colorsys.hsv_to_rgb(hue, spread, brightness)))


def colour_word(colour: np.ndarray) -> str:
    """Plain English name of a linear colour (3,)."""
    r, g, b = np.clip(np.asarray(colour, np.float64), 0, 1) ** (1 / GAMMA)
    hue, saturation, value = colorsys.rgb_to_hsv(r, g, b)
    hue *= 360
    if value < 0.17:
        return "black"
    if saturation < 0.13:
        return "white" if value > 0.82 else "grey"
    word = next(name for limit, name in _HUES if hue < limit)
    if word in ("red", "orange", "yellow") and hue < 68:
        if value < 0.55 and hue >= 10:
            return "olive" if word == "yellow" else "brown"
        if saturation < 0.4 and hue >= 14:
            return "beige" if value > 0.6 else "brown"
        if word == "red" and saturation < 0.5 and value > 0.6:
            return "pink"
    return word

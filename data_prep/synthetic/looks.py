"""What a person looks like (the same in all pictures of that person) and what he or she wears in one picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .colours import colour_word, linear, random_colour

_SKIN_RAMP = linear(
    np.array([(245, 212, 190), (232, 190, 160), (208, 158, 122), (165, 112, 78), (118, 76, 52), (80, 52, 38)]) / 255
)
_SKIN_WORDS = ((0.22, "light"), (0.5, "tan"), (0.75, "brown"), (1.01, "dark"))
_HAIR = {
    "black": (0.30, (0.012, 0.010, 0.009)),
    "dark brown": (0.22, (0.030, 0.018, 0.012)),
    "brown": (0.18, (0.075, 0.040, 0.020)),
    "light brown": (0.09, (0.18, 0.10, 0.045)),
    "blond": (0.09, (0.42, 0.29, 0.13)),
    "red": (0.05, (0.24, 0.06, 0.02)),
    "grey": (0.07, (0.33, 0.33, 0.33)),
}
"""Share and linear colour by name."""
_IRIS = np.array([(0.05, 0.025, 0.012), (0.09, 0.05, 0.02), (0.10, 0.13, 0.06), (0.10, 0.18, 0.28)], np.float32)
_SLEEVES = {"sleeveless": (0.16, 0.1), "short": (0.42, 0.42), "three-quarter": (1.2, 0.13), "long": (1.9, 0.35)}
"""Length along the arm (0 shoulder, 1 elbow, 2 wrist) and share."""
_PATTERNS = {
    "plain": 0.45,
    "striped": 0.18,
    "vertically striped": 0.09,
    "checked": 0.11,
    "two-tone": 0.1,
    "dotted": 0.07,
}


@dataclass(frozen=True)
class Looks:
    """The unchanging part. Colours are (3,) float32 linear light."""

    sex: str
    tone: float
    """0 lightest .. 1 darkest skin."""
    skin: np.ndarray
    hair_colour: np.ndarray
    hair_word: str
    hair_cut: str
    """"bald", "short" or "long"."""
    hair_thickness: float
    """metres."""
    hair_end: float
    """z of the rest mesh at which long hair ends, metres."""
    beard: float
    """0 none .. 1 dense."""
    brow: float
    lips: np.ndarray
    nails: np.ndarray
    iris: np.ndarray

    @property
    def skin_word(self) -> str:
        """ "light", "tan", "brown" or "dark"."""
        return next(word for limit, word in _SKIN_WORDS if self.tone < limit)

    @property
    def hair(self) -> str:
        """Such as "short black hair" or "bald"."""
        return "bald" if self.hair_cut == "bald" else f"{self.hair_cut} {self.hair_word} hair"


@dataclass(frozen=True)
class Clothes:
    """What is worn in one picture."""

    sleeve: str
    sleeve_end: float
    """Place along the arm."""
    neck: float
    """Radius of the neck opening, metres."""
    v_neck: bool
    pattern: str
    colours: np.ndarray
    """(2, 3) linear: the main colour and the pattern's."""
    trousers: np.ndarray
    frequency: float
    """Stripes or dots per metre, times 2 pi."""
    stripe: float
    """Threshold of the sine: share of the second colour."""
    edge: float
    """z at which a two-tone shirt changes colour, metres."""

    @property
    def top(self) -> str:
        """Such as "striped green shirt"."""
        return f"{self.pattern} {colour_word(self.colours[0])} shirt"


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return str(rng.choice(list(shares), p=weights / weights.sum()))


def draw_looks(rng: np.random.Generator) -> Looks:
    """A random adult."""
    sex = "man" if rng.random() < 0.5 else "woman"
    tone = float(np.clip(rng.beta(0.9, 1.0), 0, 1))
    skin = np.array([np.interp(tone, np.linspace(0, 1, 6), _SKIN_RAMP[:, k]) for k in range(3)], np.float32)
    hair_word = _pick(rng, {name: share for name, (share, _) in _HAIR.items()})
    hair_word = "black" if tone > 0.6 and hair_word != "grey" else hair_word
    cut = _pick(rng, {"bald": 0.1, "short": 0.9} if sex == "man" else {"bald": 0.01, "short": 0.27, "long": 0.72})
    return Looks(
        sex=sex,
        tone=tone,
        skin=skin,
        hair_colour=np.array(_HAIR[hair_word][1], np.float32) * np.float32(rng.uniform(0.85, 1.2)),
        hair_word=hair_word,
        hair_cut=cut,
        hair_thickness=rng.uniform(0.010, 0.030),
        hair_end=rng.uniform(0.36, 0.62),
        beard=rng.uniform(0.25, 0.9) if sex == "man" and rng.random() < 0.45 else 0.0,
        brow=rng.uniform(0.8, 1.4),
        lips=_lips(sex, skin, rng),
        nails=_nails(sex, skin, rng),
        iris=_IRIS[rng.integers(4 if tone < 0.4 else 2)],
    )


def _lips(sex: str, skin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if sex == "man":
        return skin * np.array([0.95, 0.52, 0.52], np.float32) * np.float32(rng.uniform(0.8, 1.05))
    return skin * np.array([rng.uniform(0.9, 1.2), rng.uniform(0.35, 0.6), rng.uniform(0.4, 0.6)], np.float32)


def _nails(sex: str, skin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    natural = skin * np.float32(0.55) + np.array([0.75, 0.50, 0.46], np.float32) * np.float32(0.35)
    varnish = random_colour(rng, (8.0, 0.7), (0.5, 0.7))
    return varnish if sex == "woman" and rng.random() < 0.3 else natural


def draw_clothes(rng: np.random.Generator) -> Clothes:
    """A random shirt and trousers."""
    sleeve = _pick(rng, {name: share for name, (_, share) in _SLEEVES.items()})
    return Clothes(
        sleeve=sleeve,
        sleeve_end=_SLEEVES[sleeve][0] + float(rng.normal() * 0.04),
        neck=rng.uniform(0.075, 0.115),
        v_neck=rng.random() < 0.25,
        pattern=_pick(rng, _PATTERNS),
        colours=_shirt_colours(rng),
        trousers=random_colour(rng, (2.0, 0.6), (0.08, 0.6)),
        frequency=rng.uniform(80, 260),
        stripe=rng.uniform(0.0, 0.5),
        edge=rng.uniform(0.30, 0.5),
    )


def _shirt_colours(rng: np.random.Generator) -> np.ndarray:
    """Two colours that differ enough for a pattern to be seen."""
    main = random_colour(rng, (1.2, 0.9), (0.12, 0.95))
    for _ in range(8):
        second = random_colour(rng, (1.5, 0.9), (0.1, 0.95))
        if np.abs(second ** (1 / 2.2) - main ** (1 / 2.2)).max() > 0.3:
            break
    return np.stack([main, second])


def draw_expression(rng: np.random.Generator) -> np.ndarray:
    """(8,) float32 weights of ``body.EXPRESSIONS``."""
    smile, jaw, brow = rng.normal(0.25, 0.3), rng.normal(0, 0.08), rng.normal(0, 0.2)
    blink, left, right = rng.normal(0, 0.1), rng.normal(0, 0.15), rng.normal(0, 0.15)
    weights = np.array([smile, smile, jaw, brow, blink, blink, left, right], np.float32)
    return np.clip(weights, 0, 1)

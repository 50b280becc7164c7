"""Captions of photographs without looking at them: a template from what is known about a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class TemplateCaptioner:
    """One sentence from attributes; says nothing that is not known."""

    made_by = "template-1"

    def describe(self, attributes: Mapping[str, Any], hands: Sequence[str]) -> str:
        """A caption.

        Args:
            attributes: what is known: ``attributes`` (sex, skin, hair, beard, expression, top, sleeve, background),
                ``gestures`` by side, or ``gesture``. Any part may be missing.
            hands: the visible hands, a subset of ``right`` and ``left``.
        """
        looks = dict(attributes.get("attributes") or {})
        expression = looks.get("expression", "neutral")
        parts = [_person(looks), _clothes(looks), expression if expression != "neutral" else ""]
        parts += [_gestures(attributes, hands, looks.get("sex"))]
        parts += [f"{looks['background']} background" if looks.get("background") else ""]
        parts = [part for part in parts if part]
        return ", ".join(parts) if looks else "a photo of " + " ".join(parts)


def _person(looks: Mapping[str, str]) -> str:
    features = [looks.get("hair", "")] if looks.get("hair") != "bald" else []
    features += [looks["beard"]] if looks.get("beard", "none") != "none" else []
    features += [f"{looks['skin']} skin"] if looks.get("skin") else []
    features = [_article(part) if part == "beard" else part for part in features if part]
    noun = _article(("bald " if looks.get("hair") == "bald" else "") + looks.get("sex", "person"))
    return f"{noun} with {_and(features)}" if features else noun


def _clothes(looks: Mapping[str, str]) -> str:
    if not looks.get("top"):
        return ""
    sleeve = looks.get("sleeve", "")
    ending = {"": "", "sleeveless": " without sleeves"}.get(sleeve, f" with {sleeve} sleeves")
    return f"wearing {_article(looks['top'])}{ending}"


def _gestures(attributes: Mapping[str, Any], hands: Sequence[str], sex: str | None) -> str:
    whose = {"woman": "her", "man": "his"}.get(sex or "", "their")
    by_side = attributes.get("gestures") or {}
    shown = [(side, by_side[side]) for side in hands if by_side.get(side)]
    if shown:
        return "showing " + _and([f"the {_words(gesture)} gesture with {whose} {side} hand" for side, gesture in shown])
    if attributes.get("gesture"):
        return f"showing the {_words(attributes['gesture'])} gesture"
    return f"showing {whose} {hands[0]} hand" if len(hands) == 1 else "showing both hands"


def _words(gesture: str) -> str:
    words = gesture.replace("_", " ")
    return f"inverted {words.removesuffix(' inverted')}" if words.endswith(" inverted") else words


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"

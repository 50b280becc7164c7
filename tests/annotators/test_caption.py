from __future__ import annotations

import pytest

from h2d.annotators.caption import TemplateCaptioner

LOOKS = {
    "sex": "woman", "skin": "light", "hair": "long brown hair", "beard": "none", "expression": "smiling",
    "top": "striped green shirt", "sleeve": "short", "background": "blue",
}  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "hands", "caption"),
    [
        ({}, ["left"], "a photo of a person showing their left hand"),
        ({}, ["right", "left"], "a photo of a person showing both hands"),
        ({"gesture": "two_up_inverted"}, ["right"], "a photo of a person showing the inverted two up gesture"),
        (
            {"attributes": LOOKS, "gestures": {"right": "peace", "left": None}},
            ["right"],
            "a woman with long brown hair and light skin, wearing a striped green shirt with short sleeves, smiling, "
            "showing the peace gesture with her right hand, blue background",
        ),
        (
            {
                "attributes": LOOKS | {"sex": "man", "hair": "bald", "beard": "beard", "expression": "neutral"},
                "gestures": {"right": "ok", "left": "fist"},
            },
            ["right", "left"],
            "a bald man with a beard and light skin, wearing a striped green shirt with short sleeves, showing the ok "
            "gesture with his right hand and the fist gesture with his left hand, blue background",
        ),
        (
            {"attributes": LOOKS | {"sleeve": "sleeveless"}, "gestures": {"right": None, "left": "ok"}},
            ["right"],
            "a woman with long brown hair and light skin, wearing a striped green shirt without sleeves, smiling, "
            "showing her right hand, blue background",
        ),
    ],
)
def test_templates(attributes: dict, hands: list[str], caption: str) -> None:
    assert TemplateCaptioner().describe(attributes, hands) == caption

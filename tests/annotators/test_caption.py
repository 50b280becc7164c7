from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from h2d.annotators.caption import INSTRUCTION, LlavaCaptioner, TemplateCaptioner, pad_square
from h2d.errors import SetupError

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


@pytest.fixture(scope="module")
def captioner(tiny_llava: Path) -> LlavaCaptioner:
    return LlavaCaptioner(str(tiny_llava), "cpu")


def test_llava_describes_a_batch_as_it_describes_one(captioner: LlavaCaptioner) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((40, 90), (120, 30), (64, 64))]
    together = captioner.describe(images)
    assert len(together) == 3
    assert all(text and "\n" not in text for text in together)
    assert together == [captioner.describe([image])[0] for image in images]


def test_llava_says_what_it_is(captioner: LlavaCaptioner) -> None:
    assert INSTRUCTION in captioner.made_by
    assert "float32" in captioner.made_by


def test_nothing_of_a_portrait_is_cropped_away() -> None:
    image = np.full((60, 20, 3), 7, np.uint8)
    square = pad_square(image)
    assert square.shape == (60, 60, 3)
    assert (square == 7).all(axis=2).sum() == 60 * 20
    assert square[0, 0].tolist() == [122, 116, 104]


def test_a_missing_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot load LLaVA"):
        LlavaCaptioner(str(tmp_path), "cpu")

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

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


def save_tiny_llava(folder: Path) -> None:
    """LLaVA's own classes with 69 thousand random parameters, saved as a checkpoint is."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    words = ["<unk>", "<s>", "</s>", "<pad>", "<image>", *dict.fromkeys(f"USER ASSISTANT : . , {INSTRUCTION}".split())]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=14, num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
    ).save_pretrained(folder)  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, image_seq_length=4)
    LlavaForConditionalGeneration(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> LlavaCaptioner:
    folder = tmp_path_factory.mktemp("tiny-llava")
    save_tiny_llava(folder)
    return LlavaCaptioner(str(folder), "cpu")


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

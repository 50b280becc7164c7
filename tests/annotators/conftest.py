from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import pytest
import torch

from data_prep.synthetic import Rendered, render_person
from h2d.annotators import llava
from h2d.annotators.llava import INSTRUCTION


@lru_cache
def _person(index: int) -> Rendered:
    return render_person(0, index, 512, supersampling=1)


@pytest.fixture(scope="session")
def two_hands() -> Rendered:
    """A rendered person who shows both hands, apart from each other."""
    both = (person for person in map(_person, range(30)) if None not in person.gestures.values())
    return next(person for person in both if person.encounter is None)


def tiny_sam(checkpoint: str | None = None) -> torch.nn.Module:
    """SAM's own classes at 1/1000 of its size."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    encoder = ImageEncoderViT(
        img_size=128, patch_size=16, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2, out_chans=32,
        qkv_bias=True, use_rel_pos=True, global_attn_indexes=[1], window_size=4, norm_layer=norm,
    )  # fmt: skip
    prompts = PromptEncoder(
        embed_dim=32, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_chans=16
    )  # fmt: skip
    transformer = TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=2)
    decoder = MaskDecoder(
        num_multimask_outputs=3, transformer=transformer, transformer_dim=32, iou_head_depth=3, iou_head_hidden_dim=32
    )
    return Sam(encoder, prompts, decoder)


@pytest.fixture
def tiny_sam_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights in the official format for an architecture called vit_b: all it sees is hand, and it is 90 % sure."""
    import segment_anything

    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", tiny_sam)
    torch.manual_seed(0)
    sam = tiny_sam()
    decoder = sam.mask_decoder
    constants = [(decoder.iou_prediction_head.layers[-1], 0.9), (decoder.output_upscaling[3], 1.0)]
    constants += [(head.layers[-1], 1.0) for head in decoder.output_hypernetworks_mlps]
    for layer, value in constants:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, value)
    path = tmp_path / "sam_vit_b_tiny.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def short_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model never says that it is done."""
    monkeypatch.setattr(llava, "MAX_NEW_TOKENS", 8)


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llava")
    save_tiny_llava(folder)
    return folder


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

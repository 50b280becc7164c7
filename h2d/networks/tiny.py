"""Stable Diffusion's topology at a size that two CPU cores can train: real classes, small widths.

Images are 128 x 128 px and latents 32 x 32 (one down-sampling less than Stable Diffusion, or fingers would be lost).
``make tiny-base`` trains these parts from scratch; ``h2d/assets/tiny-base`` holds the result.
"""

from __future__ import annotations

import string
from collections.abc import Iterable

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

IMAGE_SIZE = 128
TEXT_WIDTH = 96
VOCABULARY = 768


def tiny_vae() -> AutoencoderKL:
    """Images ``(B, 3, 128, 128)`` to latents ``(B, 4, 32, 32)`` and back; 0.65 M parameters, random weights."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=IMAGE_SIZE,
        scaling_factor=1.0,
    )


def tiny_unet() -> UNet2DConditionModel:
    """Text-conditional noise prediction on latents ``(B, 4, 32, 32)``; 4.1 M parameters, random weights."""
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 96, 96),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def tiny_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """Byte-pair encoding of CLIP's form, its merges learnt from ``captions``; any ASCII text can be encoded.

    The library numbers the words anew at each call, in no order: a text encoder belongs to the one it was trained with.
    """
    alphabet = [character * 2 for character in string.printable if not character.isspace()]
    tokenizer = CLIPTokenizer(model_max_length=77)
    return tokenizer.train_new_from_iterator([*captions, *alphabet], vocab_size=VOCABULARY, show_progress=False)


def tiny_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP text model with hidden states ``(B, 77, 96)``; random weights."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def noise_schedule() -> DDPMScheduler:
    """Stable Diffusion's training schedule."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        steps_offset=1,
    )

"""Stable Diffusion's topology at sizes that two CPU cores can train from nothing: real classes, small widths.

``make tiny-base`` and ``make tiny-model`` train these parts; ``h2d/assets`` holds the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


class Schedule(NamedTuple):
    """What may differ from Stable Diffusion's noise schedule, in the words of diffusers' schedulers.

    Attributes:
        beta_end: last and largest variance.
        timestep_spacing: of samplers.
        prediction_type: what the UNet predicts, noise or velocity.
    """

    beta_end: float = 0.012
    timestep_spacing: str = "leading"
    prediction_type: str = "epsilon"


STABLE_DIFFUSION = Schedule()


@dataclass(frozen=True)
class Size:
    """Sides and widths of a base model that is trained from scratch.

    Args:
        image_size: side of the pictures it is made for.
        vae: channels of the autoencoder's levels; each but the first halves the side.
        unet: channels of the UNet's levels; the last two attend to the text.
        text: width of the text encoder.
        text_layers: its depth.
        schedule: of the noise.
    """

    image_size: int
    vae: tuple[int, ...]
    unet: tuple[int, ...]
    text: int
    text_layers: int
    schedule: Schedule = STABLE_DIFFUSION

    @property
    def factor(self) -> int:
        """Image pixels per latent cell and side."""
        return 2 ** (len(self.vae) - 1)


SIZES = {
    # One down-sampling less than Stable Diffusion, or fingers would be lost: of 56 hands at 256 px MediaPipe finds none
    # in what four principal components of 8 x 8 pixels give back, 0.89 with those of 4 x 4.
    "tiny": Size(128, vae=(16, 32, 64), unet=(64, 96, 96), text=96, text_layers=3),
    # Cells so small are much like their neighbours, and noise in 64 x 64 of them hides no mean colour: at the first of
    # 20 steps of Stable Diffusion's schedule an image's is 3 times as large as that of noise. The UNet then takes the
    # mean of the pure noise that it starts from for the image's, and all images turn out grey. Here it is a fifth; but
    # then what is wrong by 0.01 in the noise is wrong by 1 in the colour, and the UNet predicts velocity instead.
    "tiny-model": Size(
        256,
        vae=(16, 32, 64),
        unet=(32, 64, 96, 128),
        text=96,
        text_layers=3,
        schedule=Schedule(0.025, "trailing", "v_prediction"),
    ),
}
"""``model.scratch``: one has 32 x 32 latents, the other 64 x 64."""


HUE_GAIN = (1.0, 3.0, 6.0)
"""About how much less they vary in pictures, one than the other."""
LOG_VARIANCE = -6.0
"""Of the autoencoder's posterior at the start."""


def opponent_colours() -> torch.Tensor:
    """Brightness, orange against blue, green against magenta: orthonormal rows over red, green and blue, ``(3, 3)``."""
    return torch.nn.functional.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [-1, 2, -1]]))


def new_vae(size: Size) -> AutoencoderKL:
    """Images ``(B, 3, S, S)`` to latents ``(B, 4, S/factor, S/factor)`` and back; random weights with four changes.

    Its trunk starts linear (:func:`straighten`). The first convolution sees hues as large as brightness, which is most
    of what varies in a picture: otherwise all latents begin as shades of grey, and colours come out of their small
    differences only after thousands of steps. The posterior starts narrow; its deviation is 1 by default, as much noise
    as there is signal. And all channels are normalised together: of the last level's few, groups of two lose a hue.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(size.vae),
        up_block_types=("UpDecoderBlock2D",) * len(size.vae),
        block_out_channels=size.vae,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=size.image_size,
        scaling_factor=1.0,
    )
    with torch.no_grad():
        vae.quant_conv.bias[vae.config.latent_channels :] = LOG_VARIANCE
        sight = opponent_colours().T @ torch.diag(torch.tensor(HUE_GAIN)) @ opponent_colours()
        first = vae.encoder.conv_in.weight
        first.copy_(torch.einsum("ocyx,cd->odyx", first, sight))
        straighten(vae)
    return vae


@torch.no_grad()
def straighten(network: torch.nn.Module) -> None:
    """Residual branches that start at zero, shortcuts that keep lengths, resampling that averages and copies, in place.

    What the first convolution sees then arrives at the last one whole. Through diffusers' random weights of four levels
    nothing of an 8 x 8 cell's mean colour can be read from the latents by a linear map (R2 below 0.05 of each hue).
    """
    for part in network.modules():
        if isinstance(part, ResnetBlock2D):
            torch.nn.init.zeros_(part.conv2.weight)
            torch.nn.init.zeros_(part.conv2.bias)
            if part.conv_shortcut is not None:
                torch.nn.init.orthogonal_(part.conv_shortcut.weight)
                torch.nn.init.zeros_(part.conv_shortcut.bias)
        elif isinstance(part, Downsample2D | Upsample2D):
            kernel = part.conv.weight.new_zeros(3, 3)
            if isinstance(part, Downsample2D):
                kernel[:2, :2] = 1 / 4  # it pads to the right and below
            else:
                kernel[1, 1] = 1
            part.conv.weight.copy_(torch.eye(part.channels)[:, :, None, None] * kernel)
            torch.nn.init.zeros_(part.conv.bias)


def new_unet(size: Size) -> UNet2DConditionModel:
    """Text-conditional noise prediction on latents ``(B, 4, h, w)``; random weights."""
    plain = len(size.unet) - 2
    return UNet2DConditionModel(
        sample_size=size.image_size // size.factor,
        down_block_types=(*("DownBlock2D",) * plain, *("CrossAttnDownBlock2D",) * 2),
        up_block_types=(*("CrossAttnUpBlock2D",) * 2, *("UpBlock2D",) * plain),
        block_out_channels=size.unet,
        layers_per_block=1,
        cross_attention_dim=size.text,
        attention_head_dim=4,
        norm_num_groups=size.unet[0] // 4,
    )


def new_text_encoder(tokenizer: CLIPTokenizer, size: Size) -> CLIPTextModel:
    """CLIP text model with hidden states ``(B, 77, size.text)``; random weights.

    Its words start as large as torch makes embeddings. With CLIP's deviation of 0.02 hidden states tell more of the
    place of a word than of the word, and after 1,100 steps of 16 the caption still makes no difference.
    """
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.text,
            intermediate_size=4 * size.text,
            num_hidden_layers=size.text_layers,
            num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    torch.nn.init.normal_(model.get_input_embeddings().weight)
    return model


def noise_schedule(schedule: Schedule = STABLE_DIFFUSION) -> DDPMScheduler:
    """A training schedule, by default Stable Diffusion's."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        clip_sample=False,
        steps_offset=1,
        **schedule._asdict(),
    )

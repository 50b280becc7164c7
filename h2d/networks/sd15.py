"""Stable Diffusion 1.5 as numbers: the configurations of its parts, and a folder of that size with random weights.

    python -m h2d.networks.sd15 FOLDER [--seed N] [--tenth]

The folder serves proofs of size, time and memory where the real weights cannot be had. What it paints is noise.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""859,520,964 parameters; 859,552,644 with the 11 input channels of the hand condition."""
VAE: dict[str, Any] = {
    "sample_size": 512,
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}
"""83,653,863 parameters."""
TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
"""123,060,480 parameters."""
CONTROLNET: dict[str, Any] = {
    "in_channels": 4,
    "conditioning_channels": 3,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""control_v11p_sd15_openpose: 361,279,120 parameters; 144 more with the mask as fourth hint channel."""
TEXT_TOKENS = 77
TENTH: dict[str, dict[str, Any]] = {
    "unet": {"block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 80, "norm_num_groups": 16},
    "vae": {"block_out_channels": (20, 40, 80, 80), "norm_num_groups": 4},
    "text_encoder": {"hidden_size": 80, "intermediate_size": 320, "num_attention_heads": 5},
    "controlnet": {"block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 80, "norm_num_groups": 16},
}
"""A tenth of the channels, and the same layers: encoding an image takes about the same share of a training step."""


def write_base(folder: Path, seed: int = 0, tenth: bool = False) -> None:
    """Write unet, vae, text_encoder, tokenizer, scheduler and controlnet with random weights in half precision.

    2.9 GB; one part is in memory at a time, and the largest one needs 5.2 GB.

    Args:
        folder: to write into.
        seed: of the weights.
        tenth: write networks of a tenth of the width, 28 MB, for comparisons of speed on a CPU.
    """
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from h2d.networks.base import load_tokenizer, resolve_base
    from h2d.networks.scratch import noise_schedule

    torch.manual_seed(seed)
    narrow: dict[str, dict[str, Any]] = TENTH if tenth else defaultdict(dict)
    words = load_tokenizer(resolve_base("tiny"))
    special = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    parts = {
        "unet": lambda: UNet2DConditionModel(**UNET | narrow["unet"]),
        "vae": lambda: AutoencoderKL(**VAE | narrow["vae"]),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER | narrow["text_encoder"] | special)),
        "controlnet": lambda: ControlNetModel(**CONTROLNET | narrow["controlnet"]),
    }
    for name, make in parts.items():
        make().half().save_pretrained(folder / name)
    words.save_pretrained(folder / "tokenizer")
    noise_schedule().save_pretrained(folder / "scheduler")


def main() -> int:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(prog="python -m h2d.networks.sd15", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tenth", action="store_true", help="a tenth of the width, for comparisons on a CPU")
    arguments = parser.parse_args()
    write_base(arguments.out, arguments.seed, arguments.tenth)
    size = sum(file.stat().st_size for file in arguments.out.rglob("*.safetensors"))
    width = "a tenth of the width" if arguments.tenth else "the size"
    print(f"{arguments.out}: {size / 1e9:.2f} GB of random weights, of {width} of Stable Diffusion 1.5")
    return 0


if __name__ == "__main__":
    sys.exit(main())

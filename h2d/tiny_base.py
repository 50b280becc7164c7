"""Assemble the tiny base model from the checkpoints of its two trainings, as a diffusers folder.

    python -m h2d.tiny_base --shards SHARDS --autoencoder CKPT [--text-to-image CKPT] --out FOLDER

``make tiny-base`` runs it twice: before the second training, which needs the latents and a tokenizer,
and once after it. The shards' captions give the tokenizer its merges.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from h2d.errors import CheckpointError, H2DError


def assemble(shards: Path, autoencoder: Path, text_to_image: Path | None, out: Path) -> None:
    """Write the folders vae, text_encoder, tokenizer, unet and scheduler under ``out``, weights in half precision.

    Args:
        shards: folder of shards whose training captions the tokenizer is made for.
        autoencoder: checkpoint of ``h2d train tiny_autoencoder``.
        text_to_image: checkpoint of ``h2d train tiny_text_to_image``; without it text encoder and UNet stay random.
        out: folder of the model; replaced when it exists.

    Raises:
        CheckpointError: a checkpoint is missing or of another task.
    """
    from h2d.networks import tiny

    tokenizer = tiny.tiny_tokenizer(_captions(shards))
    vae, text_encoder, unet = tiny.tiny_vae(), tiny.tiny_text_encoder(tokenizer), tiny.tiny_unet()
    weights = _weights(autoencoder, "autoencoder")
    vae.load_state_dict(_under("vae.", weights))
    vae.register_to_config(scaling_factor=1 / float(weights["latent_std"]))
    if text_to_image is not None:
        weights = _weights(text_to_image, "text_to_image")
        text_encoder.load_state_dict(_under("text_encoder.", weights))
        unet.load_state_dict(_under("unet.", weights))

    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name, part in (("vae", vae), ("text_encoder", text_encoder), ("unet", unet)):
        part.half().save_pretrained(temporary / name)
    tokenizer.save_pretrained(temporary / "tokenizer")
    tiny.noise_schedule().save_pretrained(temporary / "scheduler")
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)


def reconstruction(base: Path, shards: Path, count: int = 32) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB of decoded latents, mean over the first test samples: hand crops and people."""
    import torch

    from h2d.data.samples import hand_example, outpaint_example
    from h2d.data.shards import iter_samples
    from h2d.networks.base import load_frozen
    from h2d.networks.tiny import IMAGE_SIZE

    parts, samples = load_frozen(str(base)), list(islice(iter_samples(shards, "test"), count))
    crop = {"margin": 1.6, "sigma_px": 5.0, "wrist": "all", "latent_size": IMAGE_SIZE // parts.factor}
    hands = [hand_example(one, size=IMAGE_SIZE, rng=None, augment=None, **crop) for one in samples]
    people = [outpaint_example(one, size=IMAGE_SIZE) for one in samples]
    ratios = {}
    for name, examples in (("hands", hands), ("people", people)):
        image = torch.stack([example["image"] for example in examples])
        error = (parts.decode(parts.encode_image(image, sample=False)) - image).square().mean(dim=(1, 2, 3))
        ratios[name] = float((10 * torch.log10(4 / error)).mean())  # images span 2
    return ratios


def _captions(shards: Path) -> Iterator[str]:
    from h2d.data.shards import iter_samples

    for sample in iter_samples(shards, "train"):
        yield sample.caption


def _weights(checkpoint: Path, task: str) -> dict[str, Any]:
    from h2d.checkpoints import read_checkpoint

    content = read_checkpoint(checkpoint)
    found = content["hyper_parameters"].get("task")
    if found != task:
        raise CheckpointError(f"{checkpoint} is a checkpoint of task {found}, not of {task}")
    return content["state_dict"]


def _under(prefix: str, weights: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def main() -> int:
    """Parse the command line, assemble, print where the model is."""
    parser = argparse.ArgumentParser(prog="python -m h2d.tiny_base", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path, required=True, metavar="CKPT")
    parser.add_argument("--text-to-image", type=Path, metavar="CKPT")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    try:
        assemble(arguments.shards, arguments.autoencoder, arguments.text_to_image, arguments.out)
    except H2DError as error:
        print(f"error: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    size = sum(file.stat().st_size for file in arguments.out.rglob("*.safetensors"))
    print(f"{arguments.out}: {size / 1e6:.1f} MB of weights")
    for name, ratio in reconstruction(arguments.out, arguments.shards).items():
        print(f"reconstruction of {name}: {ratio:.1f} dB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

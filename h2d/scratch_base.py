"""Assemble a base model that was trained from scratch from the checkpoints of its two trainings, as a diffusers folder.

    python -m h2d.scratch_base --autoencoder CKPT [--text-to-image CKPT] --out FOLDER [--shards SHARDS]

``make tiny-base`` and ``make tiny-model`` run it before the training of UNet and text encoder, which it gives random
ones, and after it. The tokenizer is always the shipped one: training one numbers its words anew each time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from h2d.errors import CheckpointError, H2DError
from h2d.quiet import quiet_libraries


def assemble(autoencoder: Path, text_to_image: Path | None, out: Path) -> None:
    """Write the folders vae, text_encoder, tokenizer, unet and scheduler under ``out``, weights in half precision.

    Args:
        autoencoder: checkpoint of the task ``autoencoder``.
        text_to_image: checkpoint of the task ``text_to_image``; without it text encoder and UNet stay random.
        out: folder of the model; replaced when it exists.

    Raises:
        CheckpointError: a checkpoint is missing or of another task.
    """
    import torch

    from h2d.networks import scratch
    from h2d.networks.base import load_tokenizer, resolve_base

    torch.manual_seed(0)  # of the parts that stay random
    content = _content(autoencoder, "autoencoder")
    size = scratch.SIZES[content["hyper_parameters"]["model"]["scratch"]]
    tokenizer = load_tokenizer(resolve_base("tiny"))
    vae, text_encoder, unet = scratch.new_vae(size), scratch.new_text_encoder(tokenizer, size), scratch.new_unet(size)
    vae.load_state_dict(_under("vae.", content["state_dict"]))
    vae.register_to_config(scaling_factor=1 / float(content["state_dict"]["latent_std"]))
    if text_to_image is not None:
        weights = _content(text_to_image, "text_to_image")["state_dict"]
        text_encoder.load_state_dict(_under("text_encoder.", weights))
        unet.load_state_dict(_under("unet.", weights))

    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name, part in (("vae", vae), ("text_encoder", text_encoder), ("unet", unet)):
        part.half().save_pretrained(temporary / name)
    tokenizer.save_pretrained(temporary / "tokenizer")
    scratch.noise_schedule(size.schedule).save_pretrained(temporary / "scheduler")
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)


def reconstruction(base: Path, shards: Path, count: int = 32) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB of decoded latents, mean over the first test samples: hand crops and people."""
    import torch

    from h2d.data.samples import hand_example, outpaint_example
    from h2d.data.shards import iter_samples
    from h2d.networks.base import load_frozen

    parts, samples = load_frozen(str(base)), list(islice(iter_samples(shards, "test"), count))
    side = int(parts.vae.config["sample_size"])
    crop = {"margin": 1.6, "sigma_px": 5.0, "wrist": "all", "latent_size": side // parts.factor}
    hands = [hand_example(one, size=side, rng=None, augment=None, **crop) for one in samples]
    people = [outpaint_example(one, size=side) for one in samples]
    ratios = {}
    for name, examples in (("hands", hands), ("people", people)):
        image = torch.stack([example["image"] for example in examples])
        error = (parts.decode(parts.encode_image(image, sample=False)) - image).square().mean(dim=(1, 2, 3))
        ratios[name] = float((10 * torch.log10(4 / error)).mean())  # images span 2
    return ratios


def _content(checkpoint: Path, task: str) -> dict[str, Any]:
    from h2d.checkpoints import read_checkpoint

    content = read_checkpoint(checkpoint)
    found = content["hyper_parameters"].get("task")
    if found != task:
        raise CheckpointError(f"{checkpoint} is a checkpoint of task {found}, not of {task}")
    return content


def _under(prefix: str, weights: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def main() -> int:
    """Parse the command line, assemble, print where the model is."""
    parser = argparse.ArgumentParser(prog="python -m h2d.scratch_base", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--autoencoder", type=Path, required=True, metavar="CKPT")
    parser.add_argument("--text-to-image", type=Path, metavar="CKPT")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--shards", type=Path, help="measure how well test pictures of these are reconstructed")
    arguments = parser.parse_args()
    quiet_libraries()
    try:
        assemble(arguments.autoencoder, arguments.text_to_image, arguments.out)
    except H2DError as error:
        print(f"error: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    size = sum(file.stat().st_size for file in arguments.out.rglob("*.safetensors"))
    print(f"{arguments.out}: {size / 1e6:.1f} MB of weights")
    measured = reconstruction(arguments.out, arguments.shards) if arguments.shards else {}
    for name, ratio in measured.items():
        print(f"reconstruction of {name}: {ratio:.1f} dB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

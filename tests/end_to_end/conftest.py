"""A world small enough to run whole commands in: random base model, a few shards, 64 x 64 pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..small_networks import UNET, VAE

CAPTIONS = ("a person waves", "a person points at the sky", "a person shows a fist")


def _person(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, hand labels and pose: two bright squares with 21 keypoints each, on noise."""
    from h2d.skeleton import HAND_LABELS, HAND_SLICES

    image = rng.integers(0, 120, (96, 80, 3), dtype=np.uint8)
    hands = np.zeros((96, 80), np.uint8)
    pose = np.zeros((133, 3), np.float32)
    pose[:17] = np.concatenate([rng.uniform(20, 60, (17, 2)), np.full((17, 1), 2)], axis=1)
    for x, (hand, part) in zip((8, 48), HAND_SLICES.items(), strict=True):
        y = 20 + 5 * (number % 4)
        image[y : y + 24, x : x + 24] = 220
        hands[y : y + 24, x : x + 24] = HAND_LABELS[hand]
        pose[part] = np.concatenate([rng.uniform((x, y), (x + 24, y + 24), (21, 2)), np.full((21, 1), 2)], axis=1)
    return image, hands, pose


@pytest.fixture(scope="session")
def shards(tmp_path_factory: Any) -> Path:
    """12 training, 3 validation and 3 test samples."""
    from h2d.data.schema import encode_sample
    from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
    from h2d.files import sha256_of
    from h2d.images import encode_png

    folder, rng, infos = tmp_path_factory.mktemp("shards"), np.random.default_rng(0), []
    for split, count in (("train", 12), ("val", 3), ("test", 3)):
        samples = []
        for number in range(count):
            key = f"{split}{number:03d}"
            image, hands, pose = _person(number, rng)
            meta = {"schema": 1, "key": key, "source": "synthetic", "split": split, "size": [80, 96]}
            caption = CAPTIONS[number % len(CAPTIONS)]
            samples.append((key, encode_sample(key, encode_png(image), "png", hands, pose, caption, meta)))
        path = folder / f"{split}-000000.tar"
        write_tar(path, samples)
        infos.append(ShardInfo(path.name, split, count, path.stat().st_size, sha256_of(path)))
    write_manifest(folder, Manifest(tuple(infos), {"synthetic": 18}, {}))
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: Any) -> Path:
    """Stable Diffusion's classes at a few thousand random weights, as a diffusers folder."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from h2d.networks.base import load_tokenizer, resolve_base
    from h2d.networks.scratch import noise_schedule

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    tokenizer = load_tokenizer(resolve_base("tiny"))
    tokenizer.save_pretrained(folder / "tokenizer")
    noise_schedule().save_pretrained(folder / "scheduler")
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    parts = {
        "text_encoder": CLIPTextModel(CLIPTextConfig(**text, **tokens, num_attention_heads=2)),
        "vae": AutoencoderKL(**VAE),
        "unet": UNet2DConditionModel(**UNET),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="session")
def smoke(shards: Path, base: Path) -> Callable[..., Any]:
    """``smoke(runs, "hand", "optim.lr=1e-3")``: the experiment with the smoke preset in this world."""
    from h2d.config import compose

    def make(runs: Path, name: str, *overrides: str) -> Any:
        world = [
            "preset=smoke",
            "image_size=64",
            f"run.dir={runs}",
            f"data.shards={shards}",
            f"model.base={base}",
            "trainer.accelerator=cpu",
            "evaluation.detector=none",
        ]
        chosen = {setting.partition("=")[0]: setting for setting in [*world, *overrides]}  # a key may come once only
        return compose(name, chosen.values()).experiment

    return make


@pytest.fixture(scope="session")
def stages(smoke: Callable[..., Any], tmp_path_factory: Any) -> dict[str, Path]:
    """The last checkpoint of both stages after two steps."""
    from h2d.train import train

    runs = tmp_path_factory.mktemp("stages")
    names = ("hand", "outpaint")
    return {name: train(smoke(runs, name, "evaluation.samples=1")) / "checkpoints" / "last.ckpt" for name in names}

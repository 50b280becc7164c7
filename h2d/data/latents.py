"""Cached latents: a second set of shards with what the frozen VAE makes of each sample's training examples.

It has the shards, counts and keys of the set that it was made from, so a stream of either has the same order. A sample
holds ``K`` variants, each the example of one epoch with its own crop and colours; training reads variant ``e mod K`` in
epoch ``e``, which is exactly what it would have computed in epoch ``e < K``, to half precision. Members of variant
``k``: ``k.NAME.npy`` (float16 moments of the posterior (2C, h, w), heat maps (10, h, h)), ``k.hand_mask.png``,
``k.skeleton.png``; ``txt`` is the caption. Validation samples hold variant 0 only, which has nothing random.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from h2d.data.dataset import Draw
from h2d.data.schema import decode_npy, encode_npy
from h2d.data.shards import Manifest
from h2d.errors import ConfigError, DataError
from h2d.experiment import Experiment, leaves
from h2d.images import encode_png

ENCODED = ("image", "canvas")
"""Pictures of an example, which the VAE encodes."""
KEYS = ("task", "seed", "image_size", "data.crop_margin", "data.heatmap_sigma_px", "data.wrist", "data.augment")
"""Settings that an example depends on."""


def encode_variant(number: int, example: Mapping[str, Any]) -> dict[str, bytes]:
    """Members of one variant.

    Args:
        number: of the variant.
        example: as training uses it, with moments ``(2C, h, w)`` in place of the pictures.
    """
    members = {}
    for name in (*ENCODED, "heatmaps"):
        if name in example:
            members[f"{number}.{name}.npy"] = encode_npy(example[name].to(torch.float16).numpy())
    if "hand_mask" in example:
        members[f"{number}.hand_mask.png"] = encode_png((example["hand_mask"][0] * 255).byte().numpy())
    if "hint" in example:
        skeleton = (example["hint"][:3] * 255).round().byte().permute(1, 2, 0)
        members[f"{number}.skeleton.png"] = encode_png(skeleton.numpy())
    return members


def cached_example(raw: Mapping[str, Any], draw: Draw | None, *, variants: int) -> dict[str, Any]:
    """The example of an epoch from the members of a sample, in bytes; ``image`` and ``canvas`` are moments.

    Raises:
        DataError: the sample does not hold the variant, or it is damaged.
    """
    number = draw.epoch % variants if draw else 0
    start = f"{number}."
    try:
        example: dict[str, Any] = {
            name.removeprefix(start).partition(".")[0]: _decode(name, content)
            for name, content in raw.items()
            if name.startswith(start)
        }
        if not example:
            raise DataError(f"it has no variant {number}")
        return example | {"caption": raw["txt"].decode(), "key": raw["__key__"]}
    except (DataError, OSError, ValueError, KeyError) as error:
        where = f"sample {raw.get('__key__')} of {raw.get('__url__', 'a shard')}"
        raise DataError(
            f"{where} holds no cached latents: {error}", "make them again with `h2d data latents`"
        ) from error


def made_from(experiment: Experiment, manifest: Manifest) -> dict[str, Any]:
    """What cached latents depend on, apart from the VAE: settings and the content of the shards."""
    content = sha256("".join(shard.sha256 for shard in manifest.shards).encode()).hexdigest()[:16]
    return {key: value for key, value in leaves(experiment) if key.startswith(KEYS)} | {"shards": content}


def check_latents(cached: Manifest, experiment: Experiment, manifest: Manifest) -> None:
    """Make sure that cached latents are those of an experiment.

    Args:
        cached: of the folder of latents.
        manifest: of the shards that the experiment names.

    Raises:
        ConfigError: they were made with another setting or from other shards; names it.
    """
    for key, value in made_from(experiment, manifest).items():
        if (before := cached.settings.get(key)) != value:
            raise ConfigError(
                f"data.latents={cached.folder} was made with {key}={before}, not {value}",
                "make the latents again, or train with the setting that they were made with",
            )


def _decode(name: str, content: bytes) -> Tensor:
    if name.endswith(".npy"):
        return torch.from_numpy(decode_npy(content)).float()
    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(content), formats=("PNG",))))
    return (pixels > 127).byte()[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)

"""Cached latents: a second set of shards with what the frozen VAE makes of each sample's training examples.

It has the shards, counts and keys of the set that it was made from, so a stream of either has the same order. A sample
holds ``K`` variants, each the example of one epoch with its own crop and colours; training reads variant ``e mod K`` in
epoch ``e``, which is exactly what it would have computed in epoch ``e < K``, to half precision. Validation samples hold
variant 0 only, which has nothing random. ``k.safetensors`` is variant ``k``:

- ``image``, ``canvas``: float16 moments (2C, h, w) of the posterior,
- ``heatmaps``: float16 (10, h, h),
- ``hand_mask``: in bits, (S*S/8,),
- ``pose``: float32 (133, 3), from which the skeleton is drawn; that is quicker than to decode one,
- ``caption``: UTF-8 bytes.

What a task does not use is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from h2d.data.dataset import Draw
from h2d.data.shards import Manifest
from h2d.errors import ConfigError, DataError
from h2d.experiment import Experiment, leaves
from h2d.rendering import draw_openpose

ENCODED = ("image", "canvas")
"""Pictures of an example, which the VAE encodes."""
KEYS = ("task", "seed", "image_size", "data.crop_margin", "data.heatmap_sigma_px", "data.wrist", "data.augment")
"""Settings that an example depends on."""


def encode_variant(example: Mapping[str, Any]) -> bytes:
    """A variant as a member of a sample.

    Args:
        example: as training uses it, with moments ``(2C, h, w)`` in place of the pictures.
    """
    arrays = {name: example[name].half().numpy() for name in (*ENCODED, "heatmaps") if name in example}
    arrays["caption"] = np.frombuffer(example["caption"].encode(), np.uint8)
    if "hand_mask" in example:
        arrays["hand_mask"] = np.packbits(example["hand_mask"].numpy() > 0)
    if "pose" in example:
        arrays["pose"] = example["pose"].numpy()
    return save(arrays)


def cached_example(raw: Mapping[str, Any], draw: Draw | None, *, variants: int, size: int) -> dict[str, Any]:
    """The example of an epoch from the members of a sample, in bytes; ``image`` and ``canvas`` are moments.

    Args:
        raw: members by extension.
        draw: says which epoch; without it, variant 0.
        variants: of each sample.
        size: side S of the pictures.

    Raises:
        DataError: the sample does not hold the variant, or it is damaged.
    """
    name = f"{draw.epoch % variants if draw else 0}.safetensors"
    try:
        if name not in raw:
            raise DataError(f"it has no {name}")
        arrays = load(raw[name])
        example = {name: torch.from_numpy(arrays[name]).float() for name in (*ENCODED, "heatmaps") if name in arrays}
        if "hand_mask" in arrays:
            example["hand_mask"] = torch.from_numpy(np.unpackbits(arrays["hand_mask"]).reshape(1, size, size))
        if "pose" in arrays:
            example["pose"] = torch.from_numpy(arrays["pose"])
            example["skeleton"] = torch.from_numpy(draw_openpose(arrays["pose"], size))
        return example | {"caption": arrays["caption"].tobytes().decode(), "key": raw["__key__"]}
    except (DataError, SafetensorError, ValueError, KeyError) as error:
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

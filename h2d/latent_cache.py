"""``h2d data latents``: run the frozen VAE once over the training examples of all epochs, instead of in every step.

The unit of work is the shard. A stopped command goes on where it was, and several machines may share the shards out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from h2d.annotators.device import find_device
from h2d.data.datamodule import example_of
from h2d.data.dataset import Draw
from h2d.data.latents import ENCODED, encode_variant, made_from
from h2d.data.samples import as_numbers
from h2d.data.shards import MANIFEST, Manifest, ShardInfo, iter_shard, read_manifests, write_manifest, write_tar
from h2d.errors import ConfigError
from h2d.experiment import LATENT_TASKS, Experiment
from h2d.files import sha256_of, write_atomic, write_once
from h2d.networks.base import load_frozen
from h2d.networks.frozen import FrozenParts
from h2d.runs import commit
from h2d.slices import Slice

RECORD = "latents.json"
"""What the latents in a folder depend on, so that those of different settings never mix."""


@dataclass(frozen=True)
class LatentsRequest:
    """What ``h2d data latents`` was asked for; see its ``--help``."""

    experiment: Experiment
    out: Path
    variants: int
    slice: str
    device: str


def cache_latents(request: LatentsRequest) -> str:
    """Write the latents that are missing, and the manifest when all are there. Returns a line that says how far it is.

    Raises:
        ConfigError: the folder holds latents made with other settings.
        H2DError: the shards or the base model are not what they should be.
    """
    share = _share(request)
    manifest = read_manifests(request.experiment.data.shards)
    parts = load_frozen(request.experiment.model.base).to(find_device(request.device))
    settings = made_from(request.experiment, manifest) | {"variants": request.variants, "vae": parts.vae_digest}
    _keep(request.out / RECORD, settings)
    for place, shard in share.of(list(enumerate(manifest.shards))):
        if not _state(request.out, place).is_file():
            _cache_shard(request, parts, manifest.folder / shard.name, shard.split, place)
    states = [_state(request.out, place) for place in range(len(manifest.shards))]
    missing = sum(not state.is_file() for state in states)
    if missing:
        return f"{request.out}: {missing} of {len(states)} shards are still with other commands"
    infos = tuple(ShardInfo(**json.loads(state.read_bytes())) for state in states)
    if not (request.out / MANIFEST).is_file():
        write_manifest(request.out, Manifest(infos, manifest.sources, settings, commit=commit()))
    return f"{request.out}: {sum(info.count for info in infos):,} samples, {request.variants} variants of each"


def _share(request: LatentsRequest) -> Slice:
    if request.experiment.task not in LATENT_TASKS:
        raise ConfigError(f"latents are for the tasks {', '.join(LATENT_TASKS)}, not {request.experiment.task}")
    if request.variants < 1:
        raise ConfigError(f"--variants has to be at least 1, not {request.variants}")
    try:
        return Slice.read(request.slice)
    except ValueError:
        hint = "K/N with 0 <= K < N, for example 0/16"
        raise ConfigError(f"--slice={request.slice} is not a share of the shards", hint) from None


def _keep(path: Path, settings: dict[str, Any]) -> None:
    before = json.loads(write_once(path, json.dumps(settings, indent=1, sort_keys=True).encode()))
    for key, value in settings.items():
        if before.get(key) != value:
            raise ConfigError(
                f"{path.parent} was made with {key}={before.get(key)}, not {value}", "choose another --out"
            )


def _state(out: Path, place: int) -> Path:
    return out / "done" / f"{place:06d}.json"


def _cache_shard(request: LatentsRequest, parts: FrozenParts, source: Path, split: str, place: int) -> None:
    tar = request.out / f"{split}-{place:06d}.tar"
    samples = tqdm(_encoded(request, parts, source, split), unit="sample", desc=tar.name, disable=None)
    count = write_tar(tar, samples)
    info = ShardInfo(tar.name, split, count, tar.stat().st_size, sha256_of(tar))
    write_atomic(_state(request.out, place), json.dumps(asdict(info)).encode())


def _encoded(
    request: LatentsRequest, parts: FrozenParts, source: Path, split: str
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Keys and members of the samples of a shard."""
    experiment = request.experiment
    transform = example_of(experiment, parts.factor)
    variants = request.variants if split == "train" else 1
    for raws in _batches(iter_shard(source), max(1, experiment.data.batch_size // variants)):
        examples = []
        for raw in raws:
            draws = [Draw.of(experiment.seed, epoch, raw["__key__"]) for epoch in range(variants)]
            examples += [as_numbers(transform(raw, draw if split == "train" else None)) for draw in draws]
        for name in ENCODED:
            if name in examples[0]:
                moments = parts.moments(torch.stack([example[name] for example in examples])).cpu()
                examples = [example | {name: one} for example, one in zip(examples, moments, strict=True)]
        for place, raw in enumerate(raws):
            mine = examples[place * variants : (place + 1) * variants]
            members = {f"{number}.safetensors": encode_variant(example) for number, example in enumerate(mine)}
            yield raw["__key__"], members


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` items; the last one may be shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

"""The components of a pipeline folder, or an error that says what is wrong with the folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from huggingface_hub import snapshot_download
from transformers import CLIPTextModel

from h2d.errors import CheckpointError, SetupError
from h2d.networks.base import TINY_MODEL, load_part, load_tokenizer
from h2d.networks.hand_unet import HandUNet
from h2d.networks.hub import first_line, require_hub
from h2d.pipelines.checksums import SETTINGS, WEIGHTS, verify_checksums

NETWORKS = {
    "hand_unet": HandUNet,
    "unet": UNet2DConditionModel,
    "controlnet": ControlNetModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
}
"""Components of the pipelines that have weights."""
SHIPPED = "tiny-model"
"""Name of the pipeline of rendered people inside this package."""
EXPORT_HINT = "write one with `h2d export --hand CKPT --outpaint CKPT --out DIR`"
FILES = ["*.json", "*.txt", "*.safetensors", "SHA256SUMS"]
"""What is fetched of a hub id; no other file is ever read."""
BROKEN_SETTINGS = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
"""What the libraries raise for settings that are not what they should be."""
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")


def locate(kind: str, name: str | os.PathLike[str], options: dict[str, Any]) -> Path:
    """The folder of a pipeline of class ``kind``; :data:`SHIPPED` is in this package, and a hub id is fetched with
    those ``options``, which are used up.

    Raises:
        CheckpointError: there is no such folder, or it is of another pipeline.
        SetupError: a hub id cannot be fetched.
    """
    hub = {key: options.pop(key) for key in HUB_OPTIONS if key in options}
    if str(name) == SHIPPED:
        folder, hint = TINY_MODEL, f"train it with `make {SHIPPED}`"
    else:
        folder, hint = Path(name).expanduser(), EXPORT_HINT
    if not folder.is_dir() and _is_hub_id(str(name)):
        folder = _fetch(str(name), hub)
    _check_kind(folder, kind, hint)
    verify_checksums(folder, SETTINGS)
    return folder


def load_strictly(load: Callable[..., Any], folder: Path, components: Collection[str], options: dict[str, Any]) -> Any:
    """``load(folder, ...)`` with networks whose every weight is known, finite and as it was saved.

    Args:
        load: ``DiffusionPipeline.from_pretrained`` of the class.
        folder: of the pipeline.
        components: names of the pipeline's components.
        options: of ``from_pretrained``; a component among them is taken as it is.

    Raises:
        CheckpointError: naming the component and what is wrong with it.
    """
    verify_checksums(folder, WEIGHTS)
    dtype, variant = _dtype(options), options.pop("variant", None)
    for name, kind in NETWORKS.items():
        if name in components and name not in options:
            options[name] = load_part(kind, str(folder), name, dtype, variant=variant, exact=True)
    try:
        if "tokenizer" not in options:
            options["tokenizer"] = load_tokenizer(str(folder))
        return load(folder, local_files_only=True, **options)
    except SetupError as error:
        raise CheckpointError(error.message, EXPORT_HINT) from error
    except BROKEN_SETTINGS as error:
        raise CheckpointError(f"cannot load the pipeline in {folder}: {error}", EXPORT_HINT) from error


def _dtype(options: dict[str, Any]) -> torch.dtype:
    """Of the networks, by the older or the newer name of diffusers' option."""
    given = options.pop("torch_dtype", None) or options.pop("dtype", None) or torch.float32
    options.pop("dtype", None)
    dtype = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"torch_dtype must be such as torch.bfloat16, got {given!r}")
    return dtype


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and "\\" not in name


def _fetch(name: str, options: dict[str, Any]) -> Path:
    options = {"allow_patterns": FILES, **options}
    try:
        if not options.get("local_files_only"):
            require_hub(name, "model_index.json")
        return Path(snapshot_download(name, **options))
    except SetupError as unreachable:
        try:
            return Path(snapshot_download(name, **{**options, "local_files_only": True}))
        except (OSError, ValueError):
            raise SetupError(f"no pipeline folder {name}, and {unreachable.message}", EXPORT_HINT) from unreachable
    except (OSError, ValueError) as error:
        raise SetupError(f"cannot fetch the pipeline {name}: {first_line(error)}", EXPORT_HINT) from error


def _check_kind(folder: Path, wanted: str, hint: str) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"no pipeline folder {folder}", hint)
    try:
        kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no pipeline: it has no model_index.json", EXPORT_HINT) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}/model_index.json cannot be read: {error}", EXPORT_HINT) from error
    if kind != wanted:
        raise CheckpointError(f"{folder} holds a {kind}, not a {wanted}", EXPORT_HINT)

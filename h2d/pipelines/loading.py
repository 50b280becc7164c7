"""A pipeline from a folder, or an error that says what is wrong with the folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel

from h2d.errors import CheckpointError, SetupError
from h2d.networks.base import load_part, load_tokenizer
from h2d.networks.hand_unet import HandUNet
from h2d.pipelines.checksums import verify_checksums
from h2d.pipelines.two_stage import TwoStagePipeline

NETWORKS = {
    "hand_unet": HandUNet,
    "unet": UNet2DConditionModel,
    "controlnet": ControlNetModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
}
"""Components of a pipeline folder that have weights."""
EXPORT_HINT = "write one with `h2d export --hand CKPT --outpaint CKPT --out DIR`"


def load_pipeline(path: Path | str, dtype: torch.dtype = torch.float32) -> TwoStagePipeline:
    """Load a folder that ``save_pretrained`` or ``h2d export`` wrote: every weight present, finite and as it was saved.

    Raises:
        CheckpointError: naming the folder, or the component in it, and what is wrong with it.
    """
    folder = Path(path)
    _check_kind(folder)
    verify_checksums(folder)
    networks = {name: load_part(kind, str(folder), name, dtype) for name, kind in NETWORKS.items()}
    try:
        tokenizer = load_tokenizer(str(folder))
        return TwoStagePipeline.from_pretrained(folder, **networks, tokenizer=tokenizer, local_files_only=True)
    except SetupError as error:
        raise CheckpointError(error.message, EXPORT_HINT) from error
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"cannot load the pipeline in {folder}: {error}", EXPORT_HINT) from error


def _check_kind(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"no pipeline folder {folder}", EXPORT_HINT)
    try:
        kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no pipeline: it has no model_index.json", EXPORT_HINT) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}/model_index.json cannot be read: {error}", EXPORT_HINT) from error
    if kind != TwoStagePipeline.__name__:
        raise CheckpointError(f"{folder} holds a {kind}, not a {TwoStagePipeline.__name__}", EXPORT_HINT)

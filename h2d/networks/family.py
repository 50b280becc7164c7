"""Is a base of Stable Diffusion 1.5's family? Answered from its small configuration files, before weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from h2d.errors import CheckpointError, SetupError
from h2d.networks.hub import fetch_file, read_config

CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "scheduler": "scheduler_config.json",
}
"""The configuration file of each part of a base."""
FAMILY_HINT = "model.base has to be Stable Diffusion 1.5 or a relative: it predicts noise in 4 latent channels"
PREDICTIONS = ("epsilon", "v_prediction")
"""What the UNet of a base may predict, in diffusers' words: noise as Stable Diffusion 1.5, or velocity."""
_UNET = {
    "_class_name": "UNet2DConditionModel",
    "addition_embed_type": None,
    "class_embed_type": None,
    "encoder_hid_dim_type": None,
    "in_channels": 4,
    "out_channels": 4,
}
_WHAT_IT_IS = {
    ("addition_embed_type", "text_time"): "Stable Diffusion XL",
    ("in_channels", 9): "the UNet of an inpainting model",
    ("in_channels", 8): "the UNet of an editing or depth model",
}


def part_config(source: str, part: str) -> dict[str, Any]:
    """The configuration of a part of a base folder or hub id; fetched from the hub when it is not here.

    Raises:
        SetupError: it is missing or cannot be fetched.
        CheckpointError: it is not a JSON object.
    """
    return read_config(fetch_file(source, f"{part}/{CONFIGS[part]}"))


def check_family(source: str) -> None:
    """Refuse a base that the losses and networks here were not made for.

    Raises:
        SetupError: a part is missing or cannot be fetched.
        CheckpointError: naming the part, the setting and its value.
    """
    configs = {part: part_config(source, part) for part in CONFIGS}
    for part in ("unet", "vae", "text_encoder"):
        _check_files(source, part)
    unet, where = configs["unet"], f"{source}/unet"
    check_unet(unet, where)
    predicted = configs["scheduler"].get("prediction_type", PREDICTIONS[0])
    if predicted not in PREDICTIONS:
        problem = f"{source}/scheduler: prediction_type is {predicted}, needed {' or '.join(PREDICTIONS)}"
        raise CheckpointError(problem, FAMILY_HINT)
    width = text_width(unet)
    _demand(configs["text_encoder"], f"{source}/text_encoder", "hidden_size", width, default=512)
    _demand(configs["vae"], f"{source}/vae", "latent_channels", 4, default=4)


def check_unet(config: dict[str, Any], where: str, width: int | None = None) -> None:
    """Refuse the configuration of a UNet of another family.

    Args:
        width: of the text embeddings it has to read; any when None.

    Raises:
        CheckpointError: naming the setting and its value.
    """
    for key, wanted in _UNET.items():
        _demand(config, where, key, wanted, default=wanted)
    if width is not None and text_width(config) != width:
        raise CheckpointError(f"{where}: cross_attention_dim is {text_width(config)}, needed {width}", FAMILY_HINT)


def text_width(unet: dict[str, Any]) -> int:
    """Width of the text embeddings that a UNet reads."""
    return unet.get("cross_attention_dim", 1280)


def _demand(config: dict[str, Any], where: str, key: str, wanted: Any, default: Any) -> None:
    found = config.get(key, default)
    if found != wanted:
        what = _WHAT_IT_IS.get((key, found) if isinstance(found, str | int) else (key, 0))
        remark = f" ({what})" if what else ""
        raise CheckpointError(f"{where}: {key} is {found}, needed {wanted}{remark}", FAMILY_HINT)


def _check_files(source: str, part: str) -> None:
    folder = Path(source, part)
    if Path(source).is_dir() and not any(folder.glob("*.safetensors")):
        raise SetupError(f"no weights in {folder}", "weights are read from *.safetensors; other formats are not")

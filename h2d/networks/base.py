"""The pre-trained base (a Stable Diffusion 1.5 style diffusers folder or hub id) and its parts, loaded strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from h2d.errors import CheckpointError, ConfigError, SetupError
from h2d.networks.family import CONFIGS, check_family, check_unet, part_config, text_width
from h2d.networks.frozen import FrozenParts
from h2d.networks.hub import fetch_file, find_file, read_config
from h2d.networks.loading import check_weights, load_part, load_plain
from h2d.networks.unet_file import load_unet_file

__all__ = [
    "check_weights",
    "load_frozen",
    "load_part",
    "load_scheduler",
    "load_tokenizer",
    "load_unet",
    "make_sampler",
    "resolve_base",
]

ASSETS = Path(__file__).parents[1] / "assets"
TINY_BASE, TINY_MODEL = ASSETS / "tiny-base", ASSETS / "tiny-model"
"""Pre-trained on rendered people and shipped with the package: a base for 128 px, and both stages for 256 px."""
SHIPPED = {"tiny": TINY_BASE, "tiny-model": TINY_MODEL}
MAX_TOKENS = 100_000
VOCABULARIES = ("vocab.json", "tokenizer.json")
"""Either is a tokenizer's vocabulary."""


def resolve_base(name: str) -> str:
    """Where a base lives: "tiny" and "tiny-model" are shipped, then a local folder, then a hub id, returned as is.

    Raises:
        SetupError: when the folder that ``name`` stands for is missing or holds no base.
    """
    if name in SHIPPED:
        if not (SHIPPED[name] / "unet").is_dir():
            raise SetupError(f"no base in {SHIPPED[name]}", f"run `make {SHIPPED[name].name}`")
        return str(SHIPPED[name])
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "unet").is_dir():
            raise SetupError(
                f"no diffusers base in {folder}: it has no unet/ folder", "name the folder that holds unet/"
            )
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise SetupError(f"base folder not found: {name}", "correct model.base, or use a hub id or `tiny`")
    return name


def load_frozen(base: str) -> FrozenParts:
    """VAE, text encoder and tokenizer of a base, in float32.

    Args:
        base: see :func:`resolve_base`.

    Raises:
        SetupError: a part is missing or cannot be fetched.
        CheckpointError: the base is of another family, or weights are missing or not finite.
    """
    source = resolve_base(base)
    check_family(source)
    vae, text_encoder = load_part(AutoencoderKL, source, "vae"), load_part(CLIPTextModel, source, "text_encoder")
    return FrozenParts(vae, text_encoder, load_tokenizer(source))


def load_tokenizer(source: str) -> CLIPTokenizer:
    """Tokenizer of a base or a pipeline.

    Raises:
        SetupError: when its files are missing.
    """
    tokenizer = load_plain(CLIPTokenizer, source, "tokenizer", "tokenizer_config.json", VOCABULARIES)
    # Without its files transformers makes one that knows no word.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise SetupError(f"no vocabulary in {source}/tokenizer", "the base needs a tokenizer/ folder")
    if not isinstance(tokenizer.model_max_length, int) or not 2 < tokenizer.model_max_length < MAX_TOKENS:
        raise SetupError(
            f"{source}/tokenizer: model_max_length is {tokenizer.model_max_length!r}, not a number of tokens",
            "fetch or export the model again",
        )
    return tokenizer


def load_unet(base: str, unet: str | None = None) -> UNet2DConditionModel:
    """Denoising UNet of a base, or another one that fits it, in float32.

    Args:
        base: see :func:`resolve_base`.
        unet: a .safetensors file, a diffusers folder or a hub id in place of the base's own.

    Raises:
        SetupError: it is missing or cannot be fetched.
        CheckpointError: it is of another family, or weights are missing, of another shape or not finite.
    """
    source = resolve_base(base)
    config = part_config(source, "unet")
    check_unet(config, f"{source}/unet")
    if unet is None:
        return load_part(UNet2DConditionModel, source, "unet")
    if Path(unet).expanduser().is_file():
        return load_unet_file(_safe_file(unet), config)
    other, subfolder = locate_unet(unet)
    file = fetch_file(other, f"{subfolder}/config.json".lstrip("/"))
    check_unet(read_config(file), unet, text_width(config))
    return load_part(UNet2DConditionModel, other, subfolder or None)


def locate_unet(name: str) -> tuple[str, str]:
    """Model and subfolder of a UNet that is no single file: its own folder, or one with a unet/ folder.

    Raises:
        SetupError: a path that does not exist.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise SetupError(
            f"model.unet={name} does not exist", "name a .safetensors file, a diffusers folder or a hub id"
        )
    source = str(folder) if folder.is_dir() else name
    return source, "" if find_file(source, "config.json") else "unet"


def _safe_file(name: str) -> Path:
    path = Path(name).expanduser()
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"model.unet={name} is no .safetensors file", "other formats can run code: convert it first"
        )
    return path


def load_scheduler(base: str) -> DDPMScheduler:
    """Noise schedule of a base, for training."""
    return load_plain(DDPMScheduler, resolve_base(base), "scheduler", CONFIGS["scheduler"], [CONFIGS["scheduler"]])


def make_sampler(scheduler: Any, name: str = "DDIM") -> Any:
    """A sampler over the noise schedule of any diffusers scheduler.

    Args:
        scheduler: whose configuration it takes over.
        name: of a diffusers scheduler that fits; the paper's is DDIM with eta 0.

    Raises:
        ConfigError: there is none of that name.
        SetupError: it needs a package that is missing.
    """
    kinds = {kind.__name__.removesuffix("Scheduler"): kind for kind in scheduler.compatibles}
    kind = kinds.get(name.removesuffix("Scheduler"))
    if kind is None:
        raise ConfigError(f"scheduler {name} is none that fits", f"choose one of {', '.join(sorted(kinds))}")
    try:
        # Latents are not confined to [-1, 1], whatever a scheduler made for pixels says.
        return kind.from_config(scheduler.config, clip_sample=False)
    except ImportError as error:  # DPMSolverSDE needs a package of its own
        raise SetupError(f"scheduler {name}: {str(error).strip().splitlines()[0]}") from error

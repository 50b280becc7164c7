"""The pre-trained base (a Stable Diffusion 1.5 style diffusers folder or hub id), loaded strictly.

The libraries load a file with missing, broken or non-finite weights without a word; :func:`load_part` does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedModel

from h2d.errors import CheckpointError, SetupError
from h2d.networks.frozen import FrozenParts

FETCH_HINT = "`h2d doctor --fetch` gets it where there is internet; a folder will do too, and preset=tiny needs neither"
LOCAL_HINT = "the folder needs config.json and weights in *.safetensors; other formats are not read"
TINY_BASE = Path(__file__).parents[1] / "assets" / "tiny-base"
"""The small pre-trained base that is shipped with the package."""

Part = TypeVar("Part", bound=nn.Module)


def resolve_base(name: str) -> str:
    """Where a base lives: "tiny" is the shipped one, then a local folder, otherwise a hub id, which is returned as is.

    Raises:
        SetupError: when the folder that ``name`` stands for is missing or holds no base.
    """
    if name == "tiny":
        if not (TINY_BASE / "unet").is_dir():
            raise SetupError(f"the tiny base is missing: {TINY_BASE}", "run `make tiny-base`")
        return str(TINY_BASE)
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


def load_part(kind: type[Part], source: str, subfolder: str | None = None, dtype: torch.dtype = torch.float32) -> Part:
    """One network from a diffusers or transformers folder or hub id, with every weight present and finite.

    Only safetensors are read, so no code can run. Half-precision files become ``dtype`` (float32).

    Raises:
        SetupError: when a hub id cannot be fetched.
        CheckpointError: when weights are missing, of another shape, unreadable or not finite.
    """
    where = f"{source}/{subfolder}" if subfolder else source
    local = Path(source).is_dir()
    options: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True, "local_files_only": local}
    options["dtype" if issubclass(kind, PreTrainedModel) else "torch_dtype"] = dtype
    if local and _only_half_precision(Path(source, subfolder or "")):
        options["variant"] = "fp16"
    try:
        part, info = kind.from_pretrained(source, subfolder=subfolder or "", **options)  # type: ignore[attr-defined]
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = _first_line(error)
        if local:
            raise CheckpointError(f"cannot load {kind.__name__} from {where}: {reason}", LOCAL_HINT) from error
        raise SetupError(f"cannot fetch {where}: {reason}", FETCH_HINT) from error
    check_weights(part, where, missing=[*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])])
    return part


def check_weights(part: nn.Module, where: str, missing: list[str] | None = None) -> None:
    """Refuse a network with missing or non-finite weights.

    Raises:
        CheckpointError: naming ``where`` and the first weight that is wrong.
    """
    if missing:
        raise CheckpointError(
            f"{where} lacks {len(missing)} weights, the first is {sorted(missing)[0]}",
            "the file is damaged or belongs to another architecture: fetch or export it again",
        )
    for name, weight in part.state_dict().items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise CheckpointError(f"{where} holds NaN or infinite values in {name}", "use an earlier checkpoint")


def _only_half_precision(folder: Path) -> bool:
    """True for a folder that was saved with ``variant="fp16"`` alone."""
    files = [path.name for path in folder.glob("*.safetensors")]
    return bool(files) and all(".fp16" in name for name in files)


def load_frozen(base: str) -> FrozenParts:
    """VAE, text encoder and tokenizer of a base, in float32."""
    source = resolve_base(base)
    vae = load_part(AutoencoderKL, source, "vae")  # first: for a hub id out of reach, it says so
    return FrozenParts(vae, load_part(CLIPTextModel, source, "text_encoder"), load_tokenizer(source))


def load_tokenizer(source: str) -> CLIPTokenizer:
    """Tokenizer of a base or a pipeline.

    Raises:
        SetupError: when its files are missing.
    """
    tokenizer = _load_plain(CLIPTokenizer, source, "tokenizer")
    # Without its files transformers makes one that knows no word.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise SetupError(f"no vocabulary in {source}/tokenizer", "the base needs a tokenizer/ folder")
    return tokenizer


def load_unet(base: str) -> UNet2DConditionModel:
    """Denoising UNet of a base, in float32."""
    return load_part(UNet2DConditionModel, resolve_base(base), "unet")


def load_scheduler(base: str) -> DDPMScheduler:
    """Noise schedule of a base, for training."""
    return _load_plain(DDPMScheduler, resolve_base(base), "scheduler")


def _load_plain(kind: Any, source: str, subfolder: str) -> Any:
    """A part without weights: tokenizer or scheduler."""
    local = Path(source).is_dir()
    try:
        return kind.from_pretrained(source, subfolder=subfolder, local_files_only=local)
    except (OSError, ValueError, TypeError) as error:
        hint = f"the base needs a {subfolder}/ folder" if local else FETCH_HINT
        raise SetupError(f"cannot load {source}/{subfolder}: {_first_line(error)}", hint) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def make_sampler(scheduler: Any) -> DDIMScheduler:
    """The sampler of the paper, DDIM with eta 0, over the noise schedule of any diffusers scheduler."""
    # Latents are not confined to [-1, 1], whatever a scheduler made for pixels says.
    return DDIMScheduler.from_config(scheduler.config, clip_sample=False)

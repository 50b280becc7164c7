"""One network from its files, strictly.

The libraries load a file with missing, broken or non-finite weights without a word; :func:`load_part` does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import PreTrainedModel

from h2d.errors import CheckpointError, SetupError
from h2d.networks.hub import FETCH_HINT, find_file, first_line, require_hub

LOCAL_HINT = "the folder needs config.json and weights in *.safetensors; other formats are not read"
_OTHER_HINT = "the file is damaged or belongs to another architecture: fetch or export it again"
BROKEN = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, IndexError, AttributeError, OverflowError),
    StrictDataclassError,
)
"""What the libraries raise for files that are missing or not what they should be."""

Part = TypeVar("Part", bound=nn.Module)


def load_part(
    kind: type[Part],
    source: str,
    subfolder: str | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    variant: str | None = None,
    exact: bool = False,
) -> Part:
    """One network from a diffusers or transformers folder or hub id, with every weight present and finite.

    Only safetensors are read, so no code can run. Half-precision files become ``dtype`` (float32). The hub is asked
    only for what is not in its cache.

    Args:
        kind: its class.
        source: folder or hub id.
        subfolder: of the network in it.
        dtype: of the weights in memory.
        variant: such as "fp16", the part of a file's name between two dots; a folder with nothing but that needs none.
        exact: refuse weights that the network does not have, too.

    Raises:
        SetupError: when a hub id cannot be fetched.
        CheckpointError: when weights are missing, of another shape, unreadable or not finite.
    """
    where = f"{source}/{subfolder}" if subfolder else source
    options: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True, "subfolder": subfolder or ""}
    options["dtype" if issubclass(kind, PreTrainedModel) else "torch_dtype"] = dtype
    if variant is not None:
        options["variant"] = variant
    if Path(source).is_dir():
        part, info = _load_folder(kind, source, where, options)
    else:
        part, info = _load_hub_id(kind, source, where, options)
    check_weights(part, where, missing=[*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])])
    if exact and info["unexpected_keys"]:
        extra = sorted(info["unexpected_keys"])
        raise CheckpointError(f"{where} holds {len(extra)} weights too many, the first is {extra[0]}", _OTHER_HINT)
    return part


def _load_folder(kind: Any, source: str, where: str, options: dict[str, Any]) -> Any:
    if _only_half_precision(Path(where)):
        options.setdefault("variant", "fp16")
    try:
        return kind.from_pretrained(source, local_files_only=True, **options)
    except BROKEN as error:
        reason = first_line(error).removeprefix("Cannot load  because ").partition(". If you want to instead")[0]
        raise CheckpointError(f"cannot load {kind.__name__} from {where}: {reason}", LOCAL_HINT) from error


def _load_hub_id(kind: Any, source: str, where: str, options: dict[str, Any]) -> Any:
    try:
        return kind.from_pretrained(source, local_files_only=True, **options)
    except BROKEN:
        require_hub(source, f"{options['subfolder']}/config.json".lstrip("/"))
    try:
        return kind.from_pretrained(source, **options)
    except BROKEN as error:
        raise SetupError(f"cannot fetch {where}: {first_line(error)}", FETCH_HINT) from error


def load_plain(kind: Any, source: str, subfolder: str, asked: str, needed: Sequence[str]) -> Any:
    """A part without weights: tokenizer or scheduler.

    Args:
        kind: its class.
        source: folder or hub id.
        subfolder: of the part.
        asked: a file of the part that every hub model has.
        needed: files of the part; with any of them in the hub's cache the hub is not asked.

    Raises:
        SetupError: it is missing, damaged or cannot be fetched.
    """
    folder = Path(source).is_dir()
    local = folder or any(find_file(source, f"{subfolder}/{file}") for file in needed)
    if not local:
        require_hub(source, f"{subfolder}/{asked}")
    try:
        return kind.from_pretrained(source, subfolder=subfolder, local_files_only=local)
    except BROKEN as error:
        hint = f"the base needs a {subfolder}/ folder" if folder else FETCH_HINT
        raise SetupError(f"cannot load {source}/{subfolder}: {first_line(error)}", hint) from error


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor], where: str, hint: str) -> None:
    """Put weights into a network that was made on the "meta" device; they become its own.

    Raises:
        CheckpointError: naming ``where`` and the first weight that is missing, unknown, of another shape or not finite.
    """
    needed = {name: weight.shape for name, weight in network.state_dict().items()}
    for name, weight in weights.items():
        if name not in needed or weight.shape != needed[name]:
            wanted = f"needed {tuple(needed[name])}" if name in needed else "which the network lacks"
            raise CheckpointError(f"{where}: {name} is {tuple(weight.shape)}, {wanted}", hint)
    missing = sorted(needed.keys() - weights.keys())
    if not missing:
        network.load_state_dict(weights, assign=True)
    check_weights(network, where, missing)


def check_weights(part: nn.Module, where: str, missing: list[str] | None = None) -> None:
    """Refuse a network with missing or non-finite weights.

    Raises:
        CheckpointError: naming ``where`` and the first weight that is wrong.
    """
    if missing:
        raise CheckpointError(
            f"{where} lacks {len(missing)} weights, the first is {sorted(missing)[0]}",
            _OTHER_HINT,
        )
    for name, weight in part.state_dict().items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise CheckpointError(f"{where} holds NaN or infinite values in {name}", "use an earlier checkpoint")


def _only_half_precision(folder: Path) -> bool:
    """True for a folder that was saved with ``variant="fp16"`` alone."""
    files = [path.name for path in folder.glob("*.safetensors")]
    return bool(files) and all(".fp16" in name for name in files)

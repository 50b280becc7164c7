"""Two checkpoints in, one pipeline folder out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from h2d import __version__
from h2d.assembly import load_stages, two_stage_pipeline
from h2d.checkpoints import read_checkpoint
from h2d.errors import CheckpointError, SetupError
from h2d.files import sha256_of
from h2d.pipelines.card import write_card
from h2d.pipelines.two_stage import TwoStagePipeline


def export(hand: Path, outpaint: Path, out: Path, dtype: str = "float32") -> Path:
    """Write ``out``: the networks as safetensors, their settings, and a model card.

    The folder appears complete or not at all; one that holds the same export is left as it is. Loading it needs this
    package, and not the checkpoints.

    Args:
        hand: checkpoint of stage I.
        outpaint: checkpoint of stage II.
        out: must not exist, be empty, or hold an export of these checkpoints.
        dtype: of the written weights, by torch's name: "float32", "float16" or "bfloat16".

    Raises:
        CheckpointError: a checkpoint is damaged or of another task, or the two do not fit, or a
            weight is beyond what ``dtype`` holds.
        SetupError: ``out`` holds something else, or cannot be written.
    """
    if _is_export_of(out, dtype, hand, outpaint):
        return out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SetupError(f"{out} already exists", "choose another --out, or remove it")
    pipeline = two_stage_pipeline(*load_stages(hand, outpaint))
    _cast(pipeline, dtype)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        pipeline.save_pretrained(temporary)
        write_card(temporary, pipeline, _sources(out.name, dtype, hand, outpaint))
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        raise SetupError(f"cannot write {out}: {error}", "is the disk full or read-only?") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _cast(pipeline: TwoStagePipeline, dtype: str) -> None:
    for name, part in pipeline.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        torch.nn.Module.to(part, getattr(torch, dtype))  # diffusers' own warns of parts to be spared, of which are none
        if not all(bool(weight.isfinite().all()) for weight in part.parameters()):
            raise CheckpointError(f"{name} has a weight beyond what {dtype} holds", "export with --dtype float32")


def _is_export_of(folder: Path, dtype: str, *checkpoints: Path) -> bool:
    """Whether the folder's model card names this data type and the checksums of these files."""
    try:
        card = (folder / "README.md").read_text()
        return f"dtype: {dtype}\n" in card and all(f"sha256: {sha256_of(path)}" in card for path in checkpoints)
    except OSError:
        return False


def _sources(name: str, dtype: str, hand: Path, outpaint: Path) -> dict[str, Any]:
    """What the model card tells about the origin of the weights."""
    stages = {"hand": _stage(hand), "outpaint": _stage(outpaint)}
    data: dict[str, int] = {}
    for stage in stages.values():
        data |= stage["data"]
    base = stages["hand"]["base"]
    made = {"stages": stages, "dtype": dtype, "exported_by": f"h2d {__version__}"}
    return {"name": name, "base": base, "data": data, **made}


def _stage(path: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    settings = checkpoint["hyper_parameters"]
    return {
        "sha256": sha256_of(path),
        "steps": int(checkpoint["global_step"]),
        "global_batch": settings["trainer"]["global_batch"],
        "learning_rate": settings["optim"]["lr"],
        "base": settings["model"]["base"],
        "hand_unet": settings["model"].get("hand_unet"),
        "controlnet": settings["model"]["controlnet"],
        **{"data": {}, **checkpoint.get("made_by", {})},
    }

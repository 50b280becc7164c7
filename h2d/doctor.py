"""What this machine has for training, sampling and data preparation."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

from h2d import __version__
from h2d.baselines import SYSTEMS, missing
from h2d.runs import versions
from h2d.weights import WEIGHTS, HubModel, WeightFile

PACKAGES = {
    "training and sampling": (
        "torch",
        "lightning",
        "diffusers",
        "transformers",
        "safetensors",
        "omegaconf",
        "webdataset",
    ),
    "evaluation": ("torchmetrics", "scipy"),
    "data preparation": ("mediapipe", "segment-anything", "opencv-contrib-python-headless"),
}


def report() -> str:
    """One line for each package, device and model file."""
    lines = [f"h2d {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    for purpose, packages in PACKAGES.items():
        lines.append(f"{purpose}:")
        lines += [f"  {name:<32}{version or 'missing'}" for name, version in versions(packages).items()]
    lines += ["devices:", *(f"  {line}" for line in _devices())]
    lines += ["models:", f"  {'tiny base':<32}{_tiny_base()}", f"  {'MediaPipe Holistic':<32}{_holistic()}"]
    lines += [
        "weights (`h2d doctor --fetch [NAME ...]` downloads them):",
        *(line for w in WEIGHTS for line in _weights(w)),
    ]
    lines += [
        "compared systems (`h2d evaluate ... --method NAME`):",
        *(line for name in SYSTEMS for line in _system(name)),
    ]
    return "\n".join(lines)


def _weights(weights: WeightFile | HubModel) -> list[str]:
    state = "present" if weights.find() else "missing, but optional" if weights.optional else "missing"
    size = f"{weights.size / 1e9:.2f} GB"
    return [f"  {weights.name:<16}{size:>10}  {state}: {weights.place}", f"{'for ':>34}{weights.needed_by}"]


def _system(name: str) -> list[str]:
    lacking = missing(name)
    return [f"  {name:<32}{'ready' if not lacking else 'lacks'}", *(f"{'':>34}{line}" for line in lacking)]


def _devices() -> list[str]:
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    free = shutil.disk_usage(Path.cwd()).free
    return [
        f"{cpus} CPU cores, {free / 2**30:.0f} GiB free in this folder",
        *(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus),
        *([] if gpus else ["no CUDA device"]),
    ]


def _tiny_base() -> str:
    from h2d.errors import SetupError
    from h2d.networks.base import resolve_base

    try:
        return resolve_base("tiny")
    except SetupError as error:
        return f"missing: {error.hint}"


def _holistic() -> str:
    spec = find_spec("mediapipe")
    if spec is None or spec.origin is None:
        return "missing"
    model = Path(spec.origin).parent / "modules" / "holistic_landmark"
    return str(model) if model.is_dir() else "missing: mediapipe 0.10.21 is the last release that carries it"

"""diffusers' training scripts, unmodified, from the user's own checkout: what people train such networks with today."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from h2d.data.dataset import ShardDataset
from h2d.data.schema import decode_sample
from h2d.data.square import square_sample
from h2d.errors import ConfigError, SetupError
from h2d.experiment import Experiment
from h2d.images import encode_png
from h2d.networks.base import resolve_base
from h2d.rendering import draw_openpose

SCRIPTS = {"hand": "train_text_to_image.py", "outpaint": "train_controlnet.py"}
"""What comes nearest to a stage: all of the UNet is trained, or a ControlNet beside it."""
PACKAGES = ("datasets", "accelerate")
IMAGES = 64
_ERROR = re.compile(r"[\w.]+(Error|Exception|Interrupt): ")
RUNNER = Path(__file__).with_name("peer_runner.py")


class Peer:
    """The script that comes nearest to an experiment, with the same weights, images, size, batch and precision.

    Args:
        checkout: of diffusers, its ``examples`` folder, or the script itself.
        experiment: of stage I or II.
        folder: for its data and outputs.

    Raises:
        ConfigError: there is no such script for the task, or none there.
        SetupError: a package that it imports is missing.
    """

    def __init__(self, checkout: Path, experiment: Experiment, folder: Path) -> None:
        if experiment.task not in SCRIPTS:
            raise ConfigError(f"diffusers has no script for the task {experiment.task}", f"use {' or '.join(SCRIPTS)}")
        self.script = _find(checkout, SCRIPTS[experiment.task])
        self.experiment, self.folder = experiment, folder
        if absent := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
            raise SetupError(f"{self.script.name} needs {absent[0]}", f".venv/bin/uv pip install {' '.join(absent)}")
        _write_images(experiment, folder / "images" / "train")

    def steps(self, warm_up: int) -> list[float]:
        """Seconds of its optimiser steps.

        Raises:
            SetupError: it failed; with the last line that it printed.
        """
        out = self.folder / "times.json"
        words = [sys.executable, str(RUNNER), str(out), str(warm_up), str(self.script), *self._options()]
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(self.folder / "cache"),
        }
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if _ERROR.match(line)]
            reason = errors[-1] if errors else "it did not say why"
            raise SetupError(f"{self.script} failed: {reason}", "does it fit the installed diffusers?")
        return list(json.loads(out.read_text()))

    def _options(self) -> list[str]:
        one = self.experiment
        options: dict[str, Any] = {
            "pretrained_model_name_or_path": resolve_base(one.model.base),
            "train_data_dir": self.folder / "images",
            "caption_column": "text",
            "output_dir": self.folder / "out",
            "resolution": one.image_size,
            "train_batch_size": one.micro_batch,
            "gradient_accumulation_steps": one.accumulation,
            "max_train_steps": one.trainer.max_steps,
            "learning_rate": one.optim.lr,
            "checkpointing_steps": one.trainer.max_steps + 1,
            "mixed_precision": {"bf16-mixed": "bf16", "16-mixed": "fp16"}.get(one.trainer.precision, "no"),
            "dataloader_num_workers": one.data.num_workers,
        }
        if one.task == "outpaint":
            options |= {"conditioning_image_column": "conditioning_image", "image_column": "image"}
            if one.model.controlnet:
                options["controlnet_model_name_or_path"] = one.model.controlnet
        return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _find(checkout: Path, name: str) -> Path:
    if checkout.name == name and checkout.is_file():
        return checkout
    found = sorted(checkout.rglob(name)) if checkout.is_dir() else []
    if not found:
        raise ConfigError(f"there is no {name} in {checkout}", "--against names a checkout of diffusers, or the script")
    return found[0]


def _write_images(experiment: Experiment, folder: Path) -> None:
    """Pictures as they lie in the shards, skeletons, and captions, as ``datasets`` reads a folder of images."""
    data = ShardDataset(experiment.data.shards, "train", lambda raw, draw: dict(raw))
    folder.mkdir(parents=True)
    rows = []
    for number in range(min(IMAGES, len(data))):
        raw = data.read(number)
        extension = "jpg" if "jpg" in raw else "png"
        sample = decode_sample(raw)
        (folder / f"{number:04d}.{extension}").write_bytes(raw[extension])
        row = {"file_name": f"{number:04d}.{extension}", "text": sample.caption}
        if experiment.task == "outpaint":
            square = square_sample(sample, experiment.image_size)
            skeleton = encode_png(draw_openpose(square.pose, experiment.image_size))
            (folder / f"{number:04d}_pose.png").write_bytes(skeleton)
            row["conditioning_image_file_name"] = f"{number:04d}_pose.png"
        rows.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")

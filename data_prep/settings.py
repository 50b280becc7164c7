"""Every key of ``python -m data_prep``, its default and its meaning; ``data_prep.keys`` reads them from a command."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from data_prep.sources import Options
from h2d.errors import ConfigError
from h2d.slices import Slice

GENERATE = "python -m data_prep generate synthetic"


@dataclass(frozen=True)
class Least:
    """The smallest value of a key."""

    value: float


@dataclass(frozen=True)
class Settings:
    """What a command was told, with defaults for the rest. Every field is a key: its type, its meaning, its limit."""

    root: Annotated[Path | None, "folder of the raw data (synthetic: OUT/raw)"] = None
    out: Annotated[Path | None, "folder for everything that is made (data/DATASET)"] = None
    preset: Annotated[str, "file of configs/data with keys for each data set: `paper` (Section IV-A)"] = ""
    ids: Annotated[Path | None, "use only the images whose keys this file lists, one a line"] = None
    limit: Annotated[int | None, "use at most this many images, a fixed random choice", Least(1)] = None
    jobs: Annotated[int, "processes: 0 = one for each core, 1 = work in this one", Least(0)] = 0
    seed: Annotated[int, "generate: which synthetic people", Least(0)] = 0
    count: Annotated[int, "generate: number of synthetic people", Least(1)] = 250
    size: Annotated[int, "generate: width and height of their photographs in pixels", Least(64)] = 512
    keypoints: Annotated[
        Literal["auto", "mediapipe", "exact"],
        "who finds the 133 keypoints; auto: exact for the data sets of hands, which bring theirs, else mediapipe",
    ] = "auto"
    visibility: Annotated[float, "body keypoints below this visibility are not labelled", Least(0)] = 0.5
    masks: Annotated[
        Literal["auto", "exact", "sam", "grabcut"],
        "who segments the hands; auto: exact where the data set has masks, else sam with a checkpoint, else grabcut",
    ] = "auto"
    sam_checkpoint: Annotated[Path | None, "official SAM file; none: what `h2d doctor --fetch` got"] = None
    sam_batch: Annotated[int, "hands that SAM looks at at once", Least(1)] = 8
    sam_model: Annotated[Literal["auto", "vit_h", "vit_l", "vit_b"], "its architecture; auto: from its name"] = "auto"
    captions: Annotated[
        Literal["template", "llava"], "who writes the captions; template: the data set itself where it has some"
    ] = "template"
    llava: Annotated[str, "folder or hub id of the LLaVA model"] = "llava-hf/llava-1.5-7b-hf"
    llava_batch: Annotated[int, "images that LLaVA describes at once", Least(1)] = 8
    llava_bits: Annotated[Literal["16", "8", "4"], "bits of LLaVA's weights; 8 and 4 need bitsandbytes"] = "16"
    device: Annotated[str, "where SAM and LLaVA run: auto, cpu, cuda, cuda:1, ..."] = "auto"
    min_mask_pixels: Annotated[int, "smallest hand mask, pixels at 512 (paper: 2500 for outpainting)", Least(0)] = 400
    max_people: Annotated[int, "reject images that show more faces than this; 0 keeps all", Least(0)] = 1
    take_train: Annotated[int | None, "pack at most so many training samples, gestures in proportion", Least(1)] = None
    take_val: Annotated[int | None, "the same for validation", Least(1)] = None
    take_test: Annotated[int | None, "the same for the test", Least(1)] = None
    ablation: Annotated[int, "test samples that are listed in ablation.txt, gestures in proportion", Least(0)] = 0
    chunk_size: Annotated[int, "images in a unit of work, the step at which a stopped stage goes on", Least(1)] = 64
    shard_size: Annotated[int, "samples in a shard", Least(1)] = 1000
    slice: Annotated[Slice | None, "do only the share K/N of the work, K from 0: for job arrays"] = None
    options: Options | None = None

    @property
    def take(self) -> dict[str, int | None]:
        """Largest number of samples of each split; None for all."""
        return {"train": self.take_train, "val": self.take_val, "test": self.take_test}

    @property
    def workers(self) -> int:
        """Number of processes that ``jobs`` stands for."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.jobs or cores


def existing_root(settings: Settings, dataset: str) -> Path:
    """The folder of raw data.

    Raises:
        ConfigError: none is named, it does not exist, or it is a file.
    """
    if settings.root is None:
        raise ConfigError(f"{dataset} needs root=, the folder of the raw data", "add root=PATH to the command")
    if not settings.root.is_dir():
        problem = "is not a folder" if settings.root.exists() else "does not exist"
        hint = f"{GENERATE} out={settings.out}" if dataset == "synthetic" else "check root="
        raise ConfigError(f"root={settings.root} {problem}", hint)
    return settings.root

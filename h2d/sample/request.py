"""What ``h2d sample`` is asked for, and what of it can be refused before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from h2d.errors import ConfigError
from h2d.experiment import MAX_STEPS, SamplingConfig

MAX_GUIDANCE, MAX_RADIUS = 1000, 4096
MAX_SIDE = 8192
"""Largest height or width of a canvas in pixels."""


@dataclass(frozen=True)
class SampleRequest:
    """The options of ``h2d sample``; see its ``--help``.

    Raises:
        ConfigError: a number is out of range, or two options do not go together.
    """

    pipeline: Path
    pose: tuple[str, ...]
    out: Path
    people: int = 1
    prompt: str | None = None
    negative_prompt: str = ""
    blending: str = "sequential"
    seed: int = 0
    count: int = 1
    steps: int | None = None
    guidance: float | None = None
    start_radius: float | None = None
    scheduler: str | None = None
    height: int | None = None
    width: int | None = None
    keep_hand: tuple[str, ...] = ()
    hand_mask: Path | None = None
    sam: Path | None = None
    pose_only: bool = False
    batch_size: int = 4
    device: str = "auto"
    dtype: str = "float32"
    offload: bool = False

    def __post_init__(self) -> None:
        unblended = SamplingConfig.unblended_last_steps
        self._at_least("seed", 0)
        for name in ("count", "people", "batch_size"):
            self._at_least(name, 1)
        for name, most in (("guidance", MAX_GUIDANCE), ("start_radius", MAX_RADIUS)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise ConfigError(f"{_option(name)} has to lie between 0 and {most}, not {value}")
        for name in ("height", "width"):
            side = getattr(self, name)
            if side is not None and not 0 < side <= MAX_SIDE:
                raise ConfigError(f"{_option(name)} has to lie between 1 and {MAX_SIDE}, not {side}")
        if self.steps is not None and not unblended < self.steps <= MAX_STEPS:
            raise ConfigError(
                f"--steps has to lie between {unblended + 1} and {MAX_STEPS}, not {self.steps}",
                f"the last {unblended} steps run without blending",
            )
        if self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"--out {self.out} is a file", "name a folder; it is made where it does not exist")
        if (self.out / "model_index.json").exists():
            raise ConfigError(f"--out {self.out} is the folder of a pipeline", "name another folder")
        if self.hand_mask is not None and len(self.pose) > 1:
            raise ConfigError("--hand-mask is the mask of one picture, and --pose names several")
        if self.sam is not None and not self.keep_hand:
            raise ConfigError("--sam finds the hands that --keep-hand keeps, which is not given")

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not least <= value < math.inf:
            raise ConfigError(f"{_option(name)} has to be a number of at least {least}, not {value}")

    @property
    def seeds(self) -> range:
        """The seed of each image of a pose."""
        return range(self.seed, self.seed + self.count)

    @property
    def sampling(self) -> dict[str, Any]:
        """The arguments of the pipeline that are the same for all images; None is the pipeline's own choice."""
        return {
            "negative_prompt": self.negative_prompt,
            "blending": self.blending,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "start_radius_px": self.start_radius,
            "unblended_last_steps": SamplingConfig.unblended_last_steps,
        }

    def record(self) -> dict[str, Any]:
        """Every option as JSON can hold it."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"

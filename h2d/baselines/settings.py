"""How a compared system is to run, and what it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from h2d.baselines.presets import Preset


@dataclass(frozen=True)
class Settings:
    """How a system is to run.

    Args:
        name: of the system.
        preset_name: "native" or "uniform".
        preset: its numbers.
        size: side S of the images in pixels.
        device: of the networks.
        dtype: of the networks.
        places: where weights are, by key; see :data:`h2d.baselines.places.PLACES`.
    """

    name: str
    preset_name: str
    preset: Preset
    size: int
    device: torch.device
    dtype: torch.dtype
    places: Mapping[str, str]

    def protocol(self) -> dict[str, Any]:
        """The settings as plain values."""
        preset = self.preset
        return {
            "system": self.name,
            "preset": self.preset_name,
            "source": preset.source,
            "size": self.size,
            "dtype": str(self.dtype).removeprefix("torch."),
            "scheduler": "DDIM",
            "steps": preset.steps,
            "eta": preset.eta,
            "guidance_scale": preset.guidance,
            "added_prompt": preset.added,
            "negative_prompt": preset.negative,
            "safety_checker": False,
        }


@dataclass(frozen=True)
class Control:
    """What a pipeline is shown.

    Args:
        drawing: what it is, for the protocol.
        draw: pose ``(133, 3)`` and size S to uint8 ``(S, S, 3)``.
        strength: name of the pipeline's argument for the factor of the control; None where it has none.
    """

    drawing: str
    draw: Callable[[np.ndarray, int], np.ndarray]
    strength: str | None

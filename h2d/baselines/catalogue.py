"""The compared systems by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from h2d.baselines.controlnet import load_controlnet_system
from h2d.baselines.depth_capsules import CapsuleDepth
from h2d.baselines.depth_files import CommandDepth, FolderDepth
from h2d.baselines.hand_depth import HandDepth
from h2d.baselines.handrefiner import load_handrefiner
from h2d.baselines.humansd import load_humansd
from h2d.baselines.places import check_keys, lacking
from h2d.baselines.presets import UNIFORM, Preset, preset_of
from h2d.baselines.settings import Settings
from h2d.baselines.stable_diffusion import load_stable_diffusion
from h2d.baselines.system import System
from h2d.baselines.t2i_adapter import load_t2i_adapter
from h2d.errors import ConfigError, SetupError

NEEDS: dict[str, tuple[str, ...]] = {
    "stable-diffusion": ("base",),
    "controlnet": ("base", "controlnet"),
    "controlnet-v1.0": ("base", "controlnet-v1.0"),
    "t2i-adapter": ("base", "t2i-adapter"),
    "t2i-adapter-body": ("base", "t2i-adapter"),
    "humansd": ("sd21-base", "humansd"),
    "handrefiner": ("base", "inpainting", "handrefiner"),
}
"""Places that a system reads."""
SYSTEMS = tuple(NEEDS)
_LOADERS: dict[str, Callable[[Settings], System]] = {
    "stable-diffusion": load_stable_diffusion,
    "controlnet": load_controlnet_system,
    "controlnet-v1.0": load_controlnet_system,
    "t2i-adapter": load_t2i_adapter,
    "t2i-adapter-body": load_t2i_adapter,
    "humansd": load_humansd,
}
DEPTH_KEYS = ("hand-depth", "hand-depth-command")
"""Folder with depth maps of hands or :data:`MEDIAPIPE`, or program that makes them; see ``depth_files``."""
MEDIAPIPE = "mediapipe"
"""In place of a folder: maps after MediaPipe's landmarks, see ``depth_capsules``. A folder of this name is reached as
``./mediapipe``."""
GRID = 64
"""The side of an image has to be a multiple: eight pixels a latent cell, halved three times in the networks."""


def load_system(
    name: str,
    preset: str,
    size: int = 512,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    places: Mapping[str, str] | None = None,
    hand_depth: HandDepth | None = None,
    uniform: Preset = UNIFORM,
) -> System:
    """A compared system, ready to generate.

    Args:
        name: one of :data:`SYSTEMS`.
        preset: one of :data:`h2d.baselines.presets.PRESETS`.
        size: side of the images in pixels.
        device: of the networks.
        dtype: of the networks.
        places: where weights are, by key of :data:`h2d.baselines.places.PLACES`; and for HandRefiner
            one of :data:`DEPTH_KEYS`.
        hand_depth: for HandRefiner, in place of the two.
        uniform: what the preset of that name is.

    Raises:
        ConfigError: an argument has another value.
        SetupError: weights are not on this machine; all of them are named, with where they can be had.
        CheckpointError: weights are not what they should be.
    """
    places = places or {}
    numbers = preset_of(name, preset, uniform)
    if size <= 0 or size % GRID:
        raise ConfigError(f"size={size} cannot be generated", f"it has to be a multiple of {GRID}")
    check_keys(places, DEPTH_KEYS)
    hand_depth = hand_depth or _hand_depth(places)
    lines = missing(name, places, hand_depth)
    if lines:
        raise SetupError("\n".join([f"{name} cannot run on this machine:", *lines]), "name what you have in `places`")
    settings = Settings(name, preset, numbers, size, torch.device(device), dtype, places)
    if name == "handrefiner" and hand_depth is not None:
        return load_handrefiner(settings, hand_depth)
    return _LOADERS[name](settings)


def missing(name: str, places: Mapping[str, str] | None = None, hand_depth: HandDepth | None = None) -> list[str]:
    """What a system needs that is not on this machine: a line for each, with where it can be had.

    Args:
        name: one of :data:`SYSTEMS`.
        places: see :func:`load_system`.
        hand_depth: see :func:`load_system`.

    Raises:
        ConfigError: there is no such system.
    """
    preset_of(name, "native")
    places = places or {}
    lines = lacking(NEEDS[name], places)
    if name == "handrefiner" and hand_depth is None and not any(key in places for key in DEPTH_KEYS):
        lines.append(
            "depth maps of hands: name a folder of them (hand-depth) or a program that makes them "
            f"(hand-depth-command), or say hand-depth={MEDIAPIPE} for capsules around MediaPipe's landmarks, an "
            "approximation, not HandRefiner's mesh, which needs MANO, from mano.is.tue.mpg.de"
        )
    return lines


def _hand_depth(places: Mapping[str, str]) -> HandDepth | None:
    """What the places say about depth maps.

    Raises:
        ConfigError: both ways at once.
        SetupError: the folder does not exist.
    """
    folder, command = (places.get(key) for key in DEPTH_KEYS)
    if folder is not None and command is not None:
        raise ConfigError(f"both {' and '.join(DEPTH_KEYS)} are given", "name one")
    if command is not None:
        return CommandDepth(command)
    if folder is None:
        return None
    if folder == MEDIAPIPE:
        return CapsuleDepth()
    if not Path(folder).expanduser().is_dir():
        raise SetupError(
            f"hand-depth={folder} does not exist", f"name the folder with the images and their maps, or {MEDIAPIPE}"
        )
    return FolderDepth(Path(folder).expanduser())

"""The sampling settings of the compared systems.

``native`` is what a system's authors publish; ``uniform`` is one setting for all, so that the systems alone differ.
The paper does not say which it used. All sample with DDIM at 512 x 512.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches

from h2d.errors import ConfigError

NEGATIVE = (
    "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, worst quality, "
    "low quality"
)
"""The one that ControlNet's v1.0 demo, T2I-Adapter and HumanSD share word for word."""
_CONTROLNET = "lowres, bad anatomy, bad hands, cropped, worst quality"
_CONTROLNET_ADDED, _CONTROLNET_10_ADDED = "best quality", "best quality, extremely detailed"
_HANDREFINER = f"fake 3D rendered image, {NEGATIVE}, blue"
_HUMANSD_ADDED = "detailed background, best quality, extremely detailed"


@dataclass(frozen=True)
class Preset:
    """Settings of one system.

    Args:
        steps: of DDIM.
        guidance: scale of classifier-free guidance.
        eta: of DDIM; 0 is deterministic.
        strength: factor of what the control adds; it belongs to the system and is the same in both presets.
        added: words after every prompt.
        negative: text of the unconditional branch.
        source: where the system's authors publish the numbers.
    """

    steps: int
    guidance: float
    eta: float
    strength: float
    added: str
    negative: str
    source: str


NATIVE: dict[str, Preset] = {
    # name                     steps guidance eta strength added                 negative      source
    "stable-diffusion": Preset(50, 7.5, 0.0, 1.0,  "",                   "",           "usual (with PLMS)"),
    "controlnet":       Preset(20, 9.0, 1.0, 1.0,  _CONTROLNET_ADDED,    _CONTROLNET,  "v1.1 demo"),
    "controlnet-v1.0":  Preset(20, 9.0, 0.0, 1.0,  _CONTROLNET_10_ADDED, NEGATIVE,     "v1.0 demo"),
    "t2i-adapter":      Preset(50, 7.5, 0.0, 1.0,  "",                   NEGATIVE,     "defaults of branch SD"),
    "t2i-adapter-body": Preset(50, 7.5, 0.0, 1.0,  "",                   NEGATIVE,     "defaults of branch SD"),
    "humansd":          Preset(50, 9.0, 0.0, 1.0,  _HUMANSD_ADDED,       NEGATIVE,     "metric script (demo 10)"),
    "handrefiner":      Preset(50, 9.0, 0.0, 0.55, "",                   _HANDREFINER, "its evaluation"),
}  # fmt: skip
"""What the authors publish, by system."""
UNIFORM = Preset(50, 7.5, 0.0, 1.0, "", NEGATIVE, "one setting for all systems; the strength is each system's own")
PRESETS = ("native", "uniform")


def preset_of(system: str, name: str, uniform: Preset = UNIFORM) -> Preset:
    """The settings of a system, ``uniform`` with its own strength for the preset of that name.

    Raises:
        ConfigError: there is no such system or preset.
    """
    if system not in NATIVE:
        near = get_close_matches(system, NATIVE, n=1, cutoff=0.5)
        raise ConfigError(
            f"there is no system {system!r}", f"did you mean {near[0]}?" if near else f"known: {', '.join(NATIVE)}"
        )
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}", f"known: {', '.join(PRESETS)}")
    return NATIVE[system] if name == "native" else replace(uniform, strength=NATIVE[system].strength)

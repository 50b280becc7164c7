"""The published settings, once more and from another table."""

import pytest

from h2d.baselines.catalogue import SYSTEMS
from h2d.baselines.presets import NATIVE, preset_of
from h2d.errors import ConfigError

N1 = (
    "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, worst quality, "
    "low quality"
)
PUBLISHED = {
    "stable-diffusion": (50, 7.5, 0, ""),
    "controlnet": (20, 9, 1, "lowres, bad anatomy, bad hands, cropped, worst quality"),
    "controlnet-v1.0": (20, 9, 0, N1),
    "t2i-adapter": (50, 7.5, 0, N1),
    "t2i-adapter-body": (50, 7.5, 0, N1),
    "humansd": (50, 9, 0, N1),
    "handrefiner": (50, 9, 0, f"fake 3D rendered image, {N1}, blue"),
}


def test_native_is_what_was_published():
    found = {name: (p.steps, p.guidance, p.eta, p.negative) for name, p in NATIVE.items()}
    assert found == PUBLISHED
    assert tuple(NATIVE) == SYSTEMS


@pytest.mark.parametrize("system", SYSTEMS)
def test_uniform_differs_in_the_strength_only(system):
    preset = preset_of(system, "uniform")
    assert (preset.steps, preset.guidance, preset.eta, preset.added, preset.negative) == (50, 7.5, 0, "", N1)
    assert preset.strength == (0.55 if system == "handrefiner" else 1)


def test_wrong_names_are_refused():
    with pytest.raises(ConfigError, match="'controllnet'") as caught:
        preset_of("controllnet", "native")
    assert caught.value.hint == "did you mean controlnet?"
    with pytest.raises(ConfigError, match="no preset 'paper'"):
        preset_of("controlnet", "paper")

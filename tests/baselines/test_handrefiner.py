from __future__ import annotations

import copy
import multiprocessing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from data_prep.synthetic import render_person
from h2d.baselines import load_system
from h2d.baselines.depth_capsules import CapsuleDepth
from h2d.baselines.handrefiner import NO_HAND
from h2d.baselines.keep_outside import KeepOutside
from h2d.baselines.system import Generated

from .conftest import SIZE, OneHand

TEXTS = ["a woman waves", "a man holds a cup"]


def finding(system: Any, *found: bool) -> Any:
    system = copy.copy(system)
    system.hand_depth = OneHand(*found)
    return system


@pytest.fixture
def first(quick, poses, seeds) -> list[Any]:
    """What Stable Diffusion paints of the same seeds."""
    return quick("stable-diffusion").generate(TEXTS, poses, seeds(3, 4))


def test_the_second_pass_starts_from_stable_diffusions_own_image(first, quick, poses, seeds):
    refined = quick("handrefiner").generate(TEXTS, poses, seeds(3, 4))
    for before, after in zip(first, refined, strict=True):
        np.testing.assert_array_equal(after.panels["stable diffusion"], before.image)
        assert (after.image != before.image).any()
        assert after.remarks == ()
        assert after.panels["hand depth"][30, 20].tolist() == [200, 200, 200]
        assert after.panels["mask"][20, 10].tolist() == [255, 255, 255]
        assert after.panels["mask"][5, 5].tolist() == [0, 0, 0]


def test_without_a_hand_the_image_stays_and_is_counted(first, quick, poses, seeds):
    system = quick("handrefiner")
    both = system.generate(TEXTS, poses, seeds(3, 4))
    one = finding(system, False, True).generate(TEXTS, poses, seeds(3, 4))
    np.testing.assert_array_equal(one[0].image, first[0].image)
    assert one[0].remarks == (NO_HAND,)
    assert one[0].remarks[0].startswith("no hand found: ")
    assert one[0].panels.keys() == one[1].panels.keys()
    assert one[0].panels["mask"].max() == 0
    assert np.abs(one[1].image.astype(int) - both[1].image).max() <= 1
    assert one[1].remarks == ()
    none = finding(system, False, False).generate(TEXTS, poses, seeds(3, 4))
    assert [image.remarks for image in none] == [(NO_HAND,)] * 2


def test_the_depth_and_its_strength_decide(quick, poses, seeds, monkeypatch):
    system = quick("handrefiner")
    image = system.generate(TEXTS[:1], poses[:1], seeds(3))[0].image
    call = type(system.pipeline).__call__

    def changed(this: Any, **options: Any) -> Any:
        return call(this, **options | {"controlnet_conditioning_scale": 0.0})

    monkeypatch.setattr(type(system.pipeline), "__call__", changed)
    assert (system.generate(TEXTS[:1], poses[:1], seeds(3))[0].image != image).any()


def test_the_protocol_holds_that_of_the_first_pass(load):
    protocol = load("handrefiner", "uniform").protocol()
    assert protocol["drawn"] == OneHand.label
    assert protocol["first_pass"] == load("stable-diffusion", "uniform").protocol()
    assert protocol["strength"] == 0.55


def test_the_whole_way_with_mediapipe(places, poses, seeds):
    before = set(multiprocessing.active_children())
    person = render_person(0, 18, 256, supersampling=1)
    system = load_system("handrefiner", "native", 256, places=places | {"hand-depth": "mediapipe"})
    system.settings = replace(system.settings, preset=replace(system.settings.preset, steps=2))
    system.first = Paints(np.zeros_like(person.image), person.image)
    assert system.protocol()["drawn"] == CapsuleDepth.label
    assert set(multiprocessing.active_children()) <= before
    black, refined = system.generate(TEXTS, poses, seeds(3, 4))
    assert black.remarks == (NO_HAND,)
    assert refined.remarks == ()
    assert (refined.image != person.image).any()
    depth, true = refined.panels["hand depth"][..., 0], person.hands > 0
    assert (depth[true] > 0).mean() > 0.6
    assert refined.panels["mask"][true].mean() > 0.95 * 255
    system.close()
    assert set(multiprocessing.active_children()) <= before


class Paints:
    """A first pass that paints these images."""

    def __init__(self, *images: np.ndarray) -> None:
        self.images = images

    def protocol(self) -> dict[str, Any]:
        return {}

    def generate(self, prompts: list[str], poses: np.ndarray, generators: list[torch.Generator]) -> list[Generated]:
        return [Generated(image, {}, ()) for image in self.images]


# --- the rest of the image -------------------------------------------------------------------------------------------
@pytest.fixture
def keeper(quick, seeds) -> Any:
    """``keeper(mask)`` keeps a grey image; what is encoded of it is 2 everywhere."""
    system = quick("handrefiner")

    def make(mask: np.ndarray) -> KeepOutside:
        scheduler = DDIMScheduler.from_config(system.pipeline.scheduler.config)
        pipeline = SimpleNamespace(**{**system.pipeline.components, "scheduler": scheduler})
        keep = KeepOutside(pipeline, system.settings, [np.full((SIZE, SIZE, 3), 127, np.uint8)], [mask], seeds(0))
        keep.clean = torch.full_like(keep.clean, 2.0)
        return keep

    return make


def test_outside_the_mask_the_image_returns_at_the_level_of_the_next_step(keeper):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:, :32] = True
    keep = keeper(mask)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    latents = torch.full((1, 4, 8, 8), 7.0)
    levels = keep.scheduler.timesteps.tolist()
    assert len(levels) == 3
    for step in (0, 1):
        alpha = alphas[levels[step + 1]]
        noise = torch.randn(4, 8, 8, generator=copy_of(keep.seeds[0]))
        expected = alpha**0.5 * 2 + (1 - alpha) ** 0.5 * noise
        after = keep(None, step, levels[step], {"latents": latents})["latents"]
        torch.testing.assert_close(after[0, :, :, 4:], expected[:, :, 4:].float(), rtol=1e-4, atol=1e-5)
        assert (after[0, :, :, :4] == 7).all()
    assert keep(None, 2, levels[2], {"latents": latents})["latents"] is latents  # nothing after the last


def copy_of(generator: torch.Generator) -> torch.Generator:
    other = torch.Generator()
    other.set_state(generator.get_state())
    return other


def test_the_noise_is_fresh_at_each_step(keeper):
    keep = keeper(np.zeros((SIZE, SIZE), bool))
    keep.clean = torch.zeros_like(keep.clean)
    latents = torch.zeros(1, 4, 8, 8)
    first, second = (keep(None, 0, 0, {"latents": latents})["latents"] for _ in range(2))
    assert (first != second).any()


def test_the_second_pass_draws_from_the_images_own_generator(quick, poses, seeds):
    system = quick("handrefiner")
    system.first = Same(system.first)
    first, second, again = (system.generate(TEXTS[:1], poses[:1], seeds(seed))[0] for seed in (3, 4, 3))
    np.testing.assert_array_equal(first.panels["stable diffusion"], second.panels["stable diffusion"])
    assert (first.image != second.image).any()
    np.testing.assert_array_equal(first.image, again.image)


class Same:
    """A first pass that paints one image, whatever the generator."""

    def __init__(self, first: Any) -> None:
        self.first = first

    def generate(self, prompts: list[str], poses: np.ndarray, generators: list[torch.Generator]) -> list[Any]:
        return self.first.generate(prompts, poses, [torch.Generator().manual_seed(9) for _ in prompts])

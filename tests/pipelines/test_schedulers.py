"""Every scheduler that diffusers offers for the same noise schedule, in stage II.

EDMEulerScheduler runs, as it does in diffusers, but ignores the schedule of the network: its images mean nothing.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionControlNetPipeline

from h2d.pipelines.noise import spawn, spawn_each
from h2d.pipelines.outpaint import OutpaintPipeline

from .conftest import OUTPAINT_PARTS, always_predict, seeded

FAMILY = sorted(DDIMScheduler().compatibles, key=lambda kind: kind.__name__)
KINDS = [kind for kind in FAMILY if not hasattr(kind, "_backends")]
"""Without those of which diffusers has a stand-in only, because a package is missing."""
KARRAS = [kind for kind in KINDS if "use_karras_sigmas" in inspect.signature(kind).parameters]
TELLING = [kind for kind in KINDS if not kind.__name__.startswith(("EDMEuler", "PNDM", "DEIS"))]
"""Those that compute clean latents from a noise prediction on their way."""
HALF_WAY = ("DPMSolverSDEScheduler", "KDPM2DiscreteScheduler")
"""Two calls a step, the second at the geometric mean of the step's sigmas."""
VARIANCE_PRESERVING = ("DEISMultistep", "DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep")
"""Have sigmas, but the latents are scaled to a variance of one."""
STEPS, SIZE, CELLS = 4, 64, 16

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # of diffusers
every_scheduler = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def make(components: dict[str, Any], kind: Any, **options: Any) -> OutpaintPipeline:
    scheduler = kind.from_config(components["scheduler"].config, **options)
    made = OutpaintPipeline(**{**{name: components[name] for name in OUTPAINT_PARTS}, "scheduler": scheduler})
    made.set_progress_bar_config(disable=True)
    return made


def scene(count: int, keep: slice) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    hint, canvas = torch.rand(2, count, 4, SIZE, SIZE, generator=generator)
    hand_mask = torch.zeros(count, 1, SIZE, SIZE)
    hand_mask[..., keep, keep] = 1
    hint[:, 3:] = hand_mask
    return {"hint": hint, "canvas": 2 * canvas[:, :3] - 1, "hand_mask": hand_mask}


def test_what_diffusers_itself_cannot_run():
    """The one that may be missing needs a package that h2d does not depend on; where it is there, it is tested."""
    for kind in set(FAMILY) - set(KINDS):
        assert kind.__name__ == "DPMSolverSDEScheduler"
        with pytest.raises(ImportError, match="torchsde"):
            kind.from_config(DDIMScheduler().config)


# --- results --------------------------------------------------------------------------------------------------------
@every_scheduler
def test_hands_are_kept_and_nothing_but_the_seed_decides(components, kind):
    pipeline, inputs = make(components, kind), scene(2, slice(21, 40))
    options = {"num_inference_steps": STEPS, "guidance_scale": 1.0, "output_type": "np"}
    before = torch.get_rng_state()
    two = pipeline("a", **inputs, generator=seeded(0, 1), **options).images
    assert torch.equal(torch.get_rng_state(), before)
    inside = inputs["hand_mask"][:, 0].numpy() > 0
    np.testing.assert_array_equal(two[inside], (inputs["canvas"] / 2 + 0.5).permute(0, 2, 3, 1).numpy()[inside])
    assert np.isfinite(two).all()

    second = {key: value[1:] for key, value in inputs.items()}
    alone, again = (pipeline("a", **second, generator=seeded(1), **options).images[0] for _ in range(2))
    np.testing.assert_array_equal(alone, again)
    np.testing.assert_allclose(alone, two[1], atol=1e-4)


@torch.no_grad()
@every_scheduler
def test_equals_diffusers_controlnet_when_no_hand_is_kept(components, rgb_controlnet, kind):
    ours = make({**components, "controlnet": rgb_controlnet}, kind)
    scheduler = kind.from_config(components["scheduler"].config)
    theirs = StableDiffusionControlNetPipeline(
        **{**ours.components, "scheduler": scheduler},
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    theirs.set_progress_bar_config(disable=True)
    inputs = scene(2, slice(0))
    options = {
        "latents": torch.randn(2, 4, CELLS, CELLS, generator=seeded(8)[0]),
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "output_type": "latent",
    }
    mine = ours("a", **inputs, generator=seeded(5, 6), **options).images
    # every sample draws from a generator that its own one has spawned
    generators = spawn_each(seeded(5, 6), 2)
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = [spawn(one).initial_seed() for one in generators]
    expected = theirs(["a", "a"], image=inputs["hint"][:, :3], generator=generators, **options).images
    torch.testing.assert_close(mine, expected, atol=2e-4, rtol=0)


# --- the level at which the canvas is kept ----------------------------------------------------------------------------
def level(scheduler: Any, step: int) -> tuple[float, float]:
    """Factors of canvas and noise after a step, from the schedule and from how each sampler is published."""
    name, sigmas = type(scheduler).__name__, getattr(scheduler, "sigmas", None)
    if sigmas is None:
        alpha = float(scheduler.alphas_cumprod[scheduler.timesteps[step + 1]])
        return alpha**0.5, (1 - alpha) ** 0.5
    sigma = float(sigmas[step + 1])
    if name in HALF_WAY and step % 2 == 0:
        sigma = (float(sigmas[step]) * sigma) ** 0.5
    signal = (sigma**2 + 1) ** -0.5 if name.startswith(VARIANCE_PRESERVING) else 1.0
    return signal, signal * sigma


def keep_everything(
    monkeypatch: Any, pipeline: OutpaintPipeline, prediction: torch.Tensor, steps: int
) -> list[torch.Tensor]:
    """Latents after each step, with a network that always predicts the same and a mask of ones."""
    always_predict(monkeypatch, pipeline, prediction)
    seen: list[torch.Tensor] = []
    pipeline(
        "a",
        **scene(1, slice(None)),
        latents=NOISE,
        num_inference_steps=steps,
        guidance_scale=1.0,
        unblended_last_steps=0,
        generator=seeded(3),
        callback_on_step_end=lambda _, step, timestep, tensors: seen.append(tensors["latents"]),
        output_type="latent",
    )
    return seen


NOISE = torch.randn(1, 4, CELLS, CELLS, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("kind", "steps", "options"),
    [
        *((kind, STEPS, {}) for kind in KINDS),
        *((kind, STEPS, {"timestep_spacing": "trailing"}) for kind in KINDS if kind.__name__ != "EDMEulerScheduler"),
        *((kind, 50, {"use_karras_sigmas": True}) for kind in KARRAS),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_canvas_is_at_the_level_that_the_scheduler_sees_next(components, monkeypatch, kind, steps, options):
    """Karras sigmas: 50 of them give two equal timesteps, so that a timestep does not tell the level."""
    pipeline = make(components, kind, **options)
    canvas = pipeline.parts.encode_image(scene(1, slice(None))["canvas"], sample=False)
    seen = keep_everything(monkeypatch, pipeline, torch.zeros_like(NOISE), steps)
    assert len(seen) == len(pipeline.scheduler.timesteps) >= steps
    for step, latents in enumerate(seen[:-1]):
        signal, noise = level(pipeline.scheduler, step)
        torch.testing.assert_close(latents, signal * canvas + noise * NOISE, atol=2e-5, rtol=1e-5)
    assert torch.equal(seen[-1], canvas)


@pytest.mark.parametrize("kind", TELLING, ids=lambda kind: kind.__name__)
def test_the_scheduler_itself_finds_the_canvas_when_the_network_finds_the_noise(components, monkeypatch, kind):
    """Whatever a scheduler believes the level to be: taking the true noise away leaves the canvas."""
    pipeline = make(components, kind)
    canvas = pipeline.parts.encode_image(scene(1, slice(None))["canvas"], sample=False)
    found = spy_on_clean_latents(monkeypatch, pipeline.scheduler)
    seen = keep_everything(monkeypatch, pipeline, NOISE, STEPS)
    assert len(found) == len(seen)
    for clean in found[1:]:
        torch.testing.assert_close(clean, canvas, atol=1e-4, rtol=0)


def spy_on_clean_latents(monkeypatch: Any, scheduler: Any) -> list[torch.Tensor]:
    """Collects the clean latents that a scheduler computes from a prediction."""
    found: list[torch.Tensor] = []
    name = "convert_model_output" if hasattr(scheduler, "convert_model_output") else "step"
    original = getattr(scheduler, name)

    @functools.wraps(original)
    def spy(*given: Any, **options: Any) -> Any:
        result = original(*given, **options)
        found.append(getattr(result, "pred_original_sample", result))
        return result

    monkeypatch.setattr(scheduler, name, spy)
    return found

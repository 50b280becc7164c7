import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionControlNetPipeline,
    UniPCMultistepScheduler,
)

from h2d.masks import dilate, to_latent
from h2d.pipelines.outpaint import Blender, OutpaintPipeline

PARTS = ("unet", "controlnet", "vae", "text_encoder", "tokenizer", "scheduler")
SIZE, CELLS = 64, 16


@pytest.fixture
def outpaint(components) -> OutpaintPipeline:
    made = OutpaintPipeline(**{name: components[name] for name in PARTS})
    made.set_progress_bar_config(disable=True)
    return made


def scene(count: int = 2) -> dict[str, torch.Tensor]:
    """A hint, a canvas with random hands of odd shape, their mask and squares around them."""
    generator = torch.Generator().manual_seed(4)
    hand_mask = torch.zeros(count, 1, SIZE, SIZE)
    hand_mask[:, :, 21:40, 18:37] = (torch.rand(count, 1, 19, 19, generator=generator) > 0.3).float()
    bbox_mask = torch.zeros(count, 1, SIZE, SIZE)
    bbox_mask[:, :, 18:44, 15:41] = 1
    pixels = torch.rand(count, 3, SIZE, SIZE, generator=generator) * 2 - 1
    skeleton = torch.rand(count, 3, SIZE, SIZE, generator=generator)
    return {
        "hint": torch.cat([skeleton, hand_mask], dim=1),
        "canvas": torch.where(bbox_mask > 0, pixels, -1.0),
        "hand_mask": hand_mask,
        "bbox_mask": bbox_mask,
    }


def as_bytes(canvas: torch.Tensor) -> np.ndarray:
    return ((canvas / 2 + 0.5) * 255).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)


# --- the result -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("blending", ["sequential", "naive", "bbox"])
@pytest.mark.parametrize("blend", ["noised", "clean"])
def test_pixels_of_the_hands_equal_the_canvas_exactly(outpaint, blending, blend):
    inputs = scene()
    images = outpaint("a person", **inputs, blending=blending, blend=blend, num_inference_steps=4).images
    kept = (inputs["bbox_mask"] if blending == "bbox" else inputs["hand_mask"])[:, 0].numpy() > 0
    canvas = as_bytes(inputs["canvas"])
    for image, expected, inside in zip(images, canvas, kept, strict=True):
        pixels = np.asarray(image)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels[inside], expected[inside])
        assert (pixels[~inside] != expected[~inside]).any()


def test_strategies_give_different_bodies(outpaint):
    options = {"num_inference_steps": 4, "output_type": "pt"}
    images = {
        blending: outpaint("a", **scene(1), generator=torch.Generator().manual_seed(0), blending=blending, **options)[
            "images"
        ]
        for blending in ("sequential", "naive", "bbox")
    }
    assert not torch.equal(images["sequential"], images["naive"])
    assert not torch.equal(images["naive"], images["bbox"])


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_equals_diffusers_controlnet_when_no_hand_is_kept(components, guidance_scale):
    """Oracle: with an empty mask and a three-channel ControlNet nothing is left but diffusers' own pipeline."""
    torch.manual_seed(1)
    controlnet = ControlNetModel.from_unet(components["unet"], conditioning_embedding_out_channels=(16, 32, 96)).eval()
    for layer in (controlnet.controlnet_mid_block, controlnet.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(layer.weight, std=0.1)
    parts = {**{name: components[name] for name in PARTS}, "controlnet": controlnet}
    theirs = StableDiffusionControlNetPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    hint = scene()["hint"]
    options = {
        "latents": torch.randn(2, 4, CELLS, CELLS),
        "num_inference_steps": 4,
        "guidance_scale": guidance_scale,
        "output_type": "latent",
    }
    empty = {"canvas": torch.full((2, 3, SIZE, SIZE), -1.0), "hand_mask": torch.zeros(2, 1, SIZE, SIZE)}
    ours = OutpaintPipeline(**parts)("a person", hint, **empty, **options).images
    expected = theirs(["a person"] * 2, image=hint[:, :3], **options).images
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_images_do_not_depend_on_the_batch(outpaint):
    inputs, options = scene(3), {"num_inference_steps": 4, "output_type": "pt"}
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    together = outpaint("a person", **inputs, generator=generators, **options).images
    for index in range(3):
        one = {key: value[index : index + 1] for key, value in inputs.items()}
        alone = outpaint("a person", **one, generator=torch.Generator().manual_seed(index), **options).images
        torch.testing.assert_close(alone[0], together[index], atol=1e-4, rtol=1e-4)


def test_hint_is_never_dilated(outpaint):
    inputs, seen = scene(), []
    hook = outpaint.controlnet.register_forward_hook(lambda module, given, output: seen.append(given[3]))
    outpaint("a person", **inputs, num_inference_steps=5, start_radius_px=200, output_type="latent")
    hook.remove()
    assert len(seen) == 5
    assert all(torch.equal(hint, inputs["hint"].repeat(2, 1, 1, 1)) for hint in seen)


@pytest.mark.parametrize(("blending", "radius"), [("sequential", 49 * 64 / 512), ("naive", 0), ("bbox", 0)])
def test_start_radius_is_in_proportion_to_the_image(outpaint, monkeypatch, blending, radius):
    made = []
    monkeypatch.setattr(
        "h2d.pipelines.outpaint.Blender", lambda **options: made.append(options) or (lambda step, latents: latents)
    )
    outpaint("a person", **scene(1), blending=blending, num_inference_steps=1, output_type="latent")
    assert made[0]["start_radius_px"] == radius
    assert made[0]["unblended_last_steps"] == 2


@pytest.mark.parametrize(
    "kind",
    [
        DDIMScheduler,
        DDPMScheduler,
        PNDMScheduler,
        EulerDiscreteScheduler,
        EulerAncestralDiscreteScheduler,
        DPMSolverMultistepScheduler,
        UniPCMultistepScheduler,
        HeunDiscreteScheduler,
    ],
)
def test_any_diffusers_scheduler_works_and_is_repeatable(components, kind):
    scheduler = kind.from_config(components["scheduler"].config)
    made = OutpaintPipeline(**{**{name: components[name] for name in PARTS}, "scheduler": scheduler})
    made.set_progress_bar_config(disable=True)
    inputs = scene(1)
    first, again = (
        made("a", **inputs, num_inference_steps=5, generator=torch.Generator().manual_seed(7), output_type="np").images
        for _ in range(2)
    )
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    inside = inputs["hand_mask"][0, 0].numpy() > 0
    np.testing.assert_array_equal((first[0] * 255).round()[inside], as_bytes(inputs["canvas"])[0][inside])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_networks(components, dtype):
    import copy

    parts = {name: copy.deepcopy(components[name]) for name in PARTS}
    made = OutpaintPipeline(**parts).to(dtype)
    made.set_progress_bar_config(disable=True)
    images = made("a person", **scene(1), num_inference_steps=3, output_type="pt").images
    assert torch.isfinite(images).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"canvas": torch.zeros(1, 3, 62, 62)}, r"canvas must be a tensor \(B, 3, 60, 60\), got \(1, 3, 62, 62\)"),
        ({"hint": torch.zeros(1, 3, 64, 64)}, r"hint must be a tensor \(1, 4, 64, 64\), got \(1, 3, 64, 64\)"),
        ({"hand_mask": torch.zeros(1, 64, 64)}, r"hand_mask must be a tensor \(1, 1, 64, 64\)"),
        ({"blending": "soft"}, r"blending must be one of \('sequential', 'naive', 'bbox'\), got 'soft'"),
        ({"blend": "soft"}, "blend must be one of"),
        ({"blending": "bbox", "bbox_mask": None}, "needs bbox_mask"),
        ({"generator": [torch.Generator()] * 2}, "generator must be one or a list of 1"),
    ],
)
def test_wrong_arguments_are_named(outpaint, arguments, message):
    with pytest.raises(ValueError, match=message):
        outpaint(**{"prompt": "a person", **scene(1), **arguments})


# --- the blender ----------------------------------------------------------------------------------------------------
def make_blender(scheduler, **changes) -> Blender:
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 56:72, 56:72] = 1
    generator = torch.Generator().manual_seed(0)
    options = {
        "scheduler": scheduler,
        "canvas_latents": torch.randn(1, 4, 32, 32, generator=generator),
        "noise": torch.randn(1, 4, 32, 32, generator=generator),
        "mask": mask,
        "factor": 4,
        "how": "noised",
        "start_radius_px": 0,
        "unblended_last_steps": 2,
        **changes,
    }
    return Blender(**options)


def ddim(steps: int) -> DDIMScheduler:
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    scheduler.set_timesteps(steps)
    return scheduler


def test_hands_are_noised_to_the_level_that_comes_next():
    scheduler = ddim(10)
    blender, latents = make_blender(scheduler), torch.zeros(1, 4, 32, 32)
    inside = blender.mask_latent(0, 10).expand(-1, 4, -1, -1) > 0
    for step in range(8):
        alpha = scheduler.alphas_cumprod[scheduler.timesteps[step + 1]]
        expected = alpha.sqrt() * blender.canvas_latents + (1 - alpha).sqrt() * blender.noise
        fused = blender(step, latents)
        torch.testing.assert_close(fused[inside], expected[inside])
        assert (fused[~inside] == 0).all()


def test_the_last_two_steps_are_not_blended_and_with_none_left_out_the_end_is_clean():
    scheduler, latents = ddim(10), torch.zeros(1, 4, 32, 32)
    blender = make_blender(scheduler)
    assert blender(8, latents) is latents
    assert blender(9, latents) is latents
    everywhere = make_blender(scheduler, unblended_last_steps=0)
    inside = everywhere.mask_latent(9, 10).expand(-1, 4, -1, -1) > 0
    assert torch.equal(everywhere(9, latents)[inside], everywhere.canvas_latents[inside])


def test_clean_blend_is_the_equation_as_printed():
    blender = make_blender(ddim(10), how="clean")
    inside = blender.mask_latent(0, 10).expand(-1, 4, -1, -1) > 0
    assert torch.equal(blender(0, torch.zeros(1, 4, 32, 32))[inside], blender.canvas_latents[inside])


def test_expansion_shrinks_to_the_mask_and_dilates_before_the_reduction():
    steps = 50
    blender = make_blender(ddim(steps), start_radius_px=12.25)
    areas = [blender.mask_latent(step, steps).sum().item() for step in range(steps)]
    assert areas == sorted(areas, reverse=True)
    assert areas[-1] == to_latent(blender.mask, 4).sum() == 16
    assert torch.equal(blender.mask_latent(0, steps), to_latent(dilate(blender.mask, 12), 4))
    assert areas[0] == 10 * 10
    halfway = make_blender(ddim(7), start_radius_px=12.25).mask_latent(3, 7).sum().item()
    assert abs(halfway - areas[25]) <= 20, "the effect does not depend on the number of steps"


def test_noised_hands_follow_the_ddim_trajectory_of_their_own_noise():
    """A network that predicts the very noise leads the hands from their noise back to the canvas."""
    scheduler = ddim(20)
    blender = make_blender(scheduler, unblended_last_steps=20)
    latents = scheduler.add_noise(blender.canvas_latents, blender.noise, scheduler.timesteps[:1])
    for step, timestep in enumerate(scheduler.timesteps[:-1]):
        latents = scheduler.step(blender.noise, timestep, latents).prev_sample
        level = scheduler.timesteps[step + 1 : step + 2]
        torch.testing.assert_close(
            latents, scheduler.add_noise(blender.canvas_latents, blender.noise, level), atol=1e-4, rtol=1e-4
        )

import torch
from diffusers import DDIMScheduler

from h2d.masks import dilate, to_latent
from h2d.pipelines.blending import Blender


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

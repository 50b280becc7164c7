import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline

from h2d.networks.hand_unet import HandUNet
from h2d.pipelines.hand import HandPipeline

SHARED = ("vae", "text_encoder", "tokenizer", "scheduler")


@pytest.fixture
def hand_pipeline(components) -> HandPipeline:
    made = HandPipeline(**{name: components[name] for name in ("hand_unet", *SHARED)})
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def heatmaps() -> torch.Tensor:
    return torch.rand(3, 10, 16, 16, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler])
def test_equals_stable_diffusion_when_nothing_is_conditioned(components, guidance_scale, kind):
    """Oracle: a hand UNet that ignores its condition samples what diffusers samples from the original."""
    shared = {name: components[name] for name in SHARED}
    shared["scheduler"] = kind.from_config(components["scheduler"].config)
    ours = HandPipeline(HandUNet.from_unet(components["unet"], 4, init="zero").eval(), **shared)
    theirs = StableDiffusionPipeline(
        unet=components["unet"], safety_checker=None, feature_extractor=None, requires_safety_checker=False, **shared
    )
    options = {
        "latents": torch.randn(2, 4, 16, 16, generator=seeded()),
        "num_inference_steps": 4,
        "guidance_scale": guidance_scale,
        "negative_prompt": "blurred" if guidance_scale > 1 else None,
        "output_type": "latent",
    }
    expected = theirs("a hand", num_images_per_prompt=2, height=64, width=64, **options).images
    torch.testing.assert_close(
        ours("a hand", torch.rand(2, 10, 16, 16), **options).images, expected, atol=1e-4, rtol=1e-4
    )


def test_output_types(hand_pipeline, heatmaps):
    options = {"num_inference_steps": 2, "generator": seeded()}
    output = hand_pipeline("a hand", heatmaps[:2], **options)
    assert [image.size for image in output.images] == [(64, 64)] * 2
    assert output.masks.shape == (2, 1, 64, 64)
    assert output.masks.min() >= 0
    assert output.masks.max() <= 1
    assert 0.1 < (output.masks > 0.5).float().mean() < 0.9
    images, _ = hand_pipeline("a hand", heatmaps, output_type="np", return_dict=False, **options)
    assert images.shape == (3, 64, 64, 3)
    assert hand_pipeline("a hand", heatmaps, output_type="latent", **options).images.shape == (3, 4, 16, 16)
    with pytest.raises(ValueError, match=r"output_type must be one of .* got 'jpg'"):
        hand_pipeline("a hand", heatmaps, output_type="jpg")


def test_mask_is_what_the_conditional_branch_sees_at_the_last_step(hand_pipeline, heatmaps):
    network, seen, heads = hand_pipeline.hand_unet, [], []
    hooks = [
        network.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output.features))),
        network.mask_head.register_forward_hook(lambda module, inputs, output: heads.append(len(output))),
    ]
    masks = hand_pipeline("a hand", heatmaps, num_inference_steps=3, generator=seeded(), output_type="latent").masks
    for hook in hooks:
        hook.remove()
    assert len(seen) == 3
    assert heads == [3], "the head is asked once, and about one branch"
    inputs, features = seen[-1]
    assert features.shape[0] == 6
    with torch.no_grad():
        torch.testing.assert_close(masks, network(*inputs).mask[3:].clamp(0, 1))


def test_condition_reaches_both_branches_and_mask_is_optional(hand_pipeline, heatmaps):
    seen = []
    hook = hand_pipeline.hand_unet.register_forward_hook(lambda module, inputs, output: seen.append(inputs[3]))
    options = {"num_inference_steps": 1, "output_type": "latent"}
    hand_pipeline("a hand", heatmaps, **options)
    hand_pipeline("a hand", heatmaps, hand_mask=torch.ones(3, 1, 64, 64), **options)
    hook.remove()
    for condition, mask in zip(seen, (0, 1), strict=True):
        assert torch.equal(condition[:3], condition[3:])
        assert torch.equal(condition[:3, :10], heatmaps)
        assert (condition[:, 10] == mask).all()


def test_images_do_not_depend_on_the_batch(hand_pipeline, heatmaps):
    options = {"num_inference_steps": 3, "output_type": "pt"}
    together = hand_pipeline(["a", "b", "c"], heatmaps, generator=[seeded(1), seeded(2), seeded(3)], **options)
    for index, text in enumerate("abc"):
        alone = hand_pipeline(text, heatmaps[index : index + 1], generator=seeded(index + 1), **options)
        torch.testing.assert_close(alone.images[0], together.images[index], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone.masks[0], together.masks[index], atol=1e-4, rtol=1e-4)


def test_callback_sees_every_step_and_may_change_the_latents(hand_pipeline, heatmaps):
    calls = []

    def callback(pipeline, step, timestep, tensors):
        calls.append((step, timestep, tuple(tensors["latents"].shape)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else None

    output = hand_pipeline(
        "a hand", heatmaps, num_inference_steps=3, output_type="latent", callback_on_step_end=callback
    )
    assert [call[0] for call in calls] == [0, 1, 2]
    assert [call[1] for call in calls] == hand_pipeline.scheduler.timesteps.tolist()
    assert calls[0][2] == (3, 4, 16, 16)
    assert (output.images == 0).all()


def test_another_scheduler_and_half_precision(components, heatmaps):
    scheduler = EulerDiscreteScheduler.from_config(components["scheduler"].config)
    made = HandPipeline(**{**{name: components[name] for name in ("hand_unet", *SHARED)}, "scheduler": scheduler})
    made.set_progress_bar_config(disable=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = made("a hand", heatmaps, num_inference_steps=3, output_type="pt", generator=seeded())
    assert torch.isfinite(output.images).all()
    assert output.masks.dtype == torch.float32


def test_progress_bar_is_silent_when_disabled(hand_pipeline, heatmaps, capfd):
    hand_pipeline("a hand", heatmaps[:1], num_inference_steps=1, output_type="latent")
    assert capfd.readouterr().err == ""
    hand_pipeline.set_progress_bar_config(disable=False)
    hand_pipeline("a hand", heatmaps[:1], num_inference_steps=1, output_type="latent")
    assert "1/1" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heatmaps": torch.zeros(1, 9, 8, 8)}, r"heatmaps must be a tensor \(B, 10, h, w\), got \(1, 9, 8, 8\)"),
        ({"hand_mask": torch.zeros(2, 1, 64, 64)}, r"hand_mask must be a tensor \(1, 1, S, S\)"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, r"latents must be a tensor \(1, 4, 16, 16\)"),
        ({"prompt": ["a", "b"]}, "prompt must be one text or a list of 1"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt must be"),
    ],
)
def test_wrong_arguments_are_named(hand_pipeline, arguments, message):
    with pytest.raises(ValueError, match=message):
        hand_pipeline(**{"prompt": "a hand", "heatmaps": torch.zeros(1, 10, 16, 16), **arguments})

import numpy as np
import pytest
import torch

from h2d.pipelines.outpaint import OutpaintPipeline

from .conftest import OUTPAINT_PARTS, SIZE


@pytest.fixture
def outpaint(components) -> OutpaintPipeline:
    made = OutpaintPipeline(**{name: components[name] for name in OUTPAINT_PARTS})
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

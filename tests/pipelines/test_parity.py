"""The pipelines against diffusers' own where the algorithms coincide, and against what is known of the geometry."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionControlNetInpaintPipeline, StableDiffusionControlNetPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from scipy import ndimage

from h2d.masks import CropBox, crop, paste
from h2d.pipelines.noise import spawn_each
from h2d.pipelines.outpaint import OutpaintPipeline
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.rendering import draw_openpose, finger_heatmaps
from h2d.skeleton import BODY, FACE, FLIP

from .conftest import OUTPAINT_PARTS, SIZE, always_predict, make_pose, seeded

STOCK = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


@pytest.fixture
def outpaint(components, rgb_controlnet) -> OutpaintPipeline:
    """Its ControlNet has no mask hint, so that it can be diffusers' too."""
    parts = {**components, "controlnet": rgb_controlnet}
    made = OutpaintPipeline(**{name: parts[name] for name in OUTPAINT_PARTS})
    made.set_progress_bar_config(disable=True)
    return made


def stock(kind: Any, pipeline: Any) -> Any:
    """One of diffusers' pipelines with the networks of one of ours, and a scheduler of its own."""
    parts = {name: getattr(pipeline, name) for name in OUTPAINT_PARTS}
    made = kind(**{**parts, "scheduler": copy.deepcopy(pipeline.scheduler)}, **STOCK)
    made.set_progress_bar_config(disable=True)
    return made


def scene(height: int = SIZE, width: int = SIZE, count: int = 2) -> dict[str, torch.Tensor]:
    """A hint and a canvas with nothing on it to keep."""
    hint, canvas = torch.rand(2, count, 4, height, width, generator=seeded(4)[0])
    return {"hint": hint, "canvas": 2 * canvas[:, :3] - 1, "hand_mask": torch.zeros(count, 1, height, width)}


# --- diffusers ------------------------------------------------------------------------------------------------------
@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guidance_scale": 1.0},
        {"negative_prompt": ["blurred", "bad"]},
        {"controlnet_conditioning_scale": 0.4},
        {"control_guidance_start": 0.2, "control_guidance_end": 0.7},
        {"eta": 0.7},
        {"num_images_per_prompt": 2},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_without_hands_stage_two_is_diffusers_controlnet(outpaint, options):
    inputs, images = scene(SIZE, 48), 2 * options.get("num_images_per_prompt", 1)
    shared = {"latents": torch.randn(images, 4, 16, 12, generator=seeded(1)[0]), "num_inference_steps": 4}
    shared |= {"output_type": "latent", **options}
    ours = outpaint(["a person", "hands"], **inputs, generator=seeded(*range(images)), **shared).images
    # each of our samples draws from a generator that its own one has spawned
    generators = spawn_each(seeded(*range(images)), images)
    theirs = stock(StableDiffusionControlNetPipeline, outpaint)
    expected = theirs(["a person", "hands"], image=inputs["hint"][:, :3], generator=generators, **shared).images
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)


def test_a_pose_without_hands_goes_through_both_stages_as_through_diffusers_controlnet(components, rgb_controlnet):
    parts = {**components, "controlnet": rgb_controlnet}
    pipeline = TwoStagePipeline(**parts, image_size=SIZE, sigma_px=1.0)
    pipeline.set_progress_bar_config(disable=True)
    pose = make_pose()
    pose[BODY] = [*zip(*np.random.default_rng(3).uniform(5, 60, (2, 17)), np.full(17, 2), strict=True)]
    seen: list[torch.Tensor] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    ours = pipeline("a person", pose, num_inference_steps=4, generator=seeded(1)[0], output_type="np").images
    hook.remove()

    skeleton = Image.fromarray(draw_openpose(pose, SIZE))
    theirs = stock(StableDiffusionControlNetPipeline, pipeline)
    noise = seen[0][:1]  # DDIM starts from it as it is
    expected = theirs("a person", skeleton, latents=noise, num_inference_steps=4, output_type="np").images
    assert np.asarray(skeleton).max() > 0
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_naive_blending_is_diffusers_inpainting(outpaint, monkeypatch, guidance_scale):
    """Coincide: a UNet of 4 channels at strength 1, which fuses the known latents, noised to the next level with the
    noise it started from, after every step, and clean ones after the last; so nothing may be left unblended here.

    Differ: diffusers draws the known latents from the VAE's posterior, we take its mode (set here); diffusers takes
    one pixel of a cell for its mask, we take the majority (equal on whole cells); its mask is 1 where it paints, and
    its ControlNet has a scale of 0.5 where nothing is said; it leaves the pixels as decoded, we bring back the hands
    (so latents are compared).
    """
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda posterior, *_: posterior.mode())
    inputs = scene()
    inputs["hand_mask"][0, :, 16:44, 8:24] = inputs["hand_mask"][1, :, 32:, 32:60] = 1
    shared = {"latents": torch.randn(2, 4, 16, 16, generator=seeded(1)[0]), "num_inference_steps": 5}
    shared |= {"guidance_scale": guidance_scale, "controlnet_conditioning_scale": 1.0, "output_type": "latent"}
    ours = outpaint(["a", "b"], **inputs, blending="naive", unblended_last_steps=0, **shared).images
    expected = stock(StableDiffusionControlNetInpaintPipeline, outpaint)(
        ["a", "b"],
        image=inputs["canvas"] / 2 + 0.5,
        mask_image=1 - inputs["hand_mask"],
        control_image=inputs["hint"][:, :3],
        strength=1.0,
        **shared,
    ).images
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)


# --- masks ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("blending", ["sequential", "naive"])
def test_a_full_mask_gives_the_canvas(outpaint, blending):
    inputs = scene()
    inputs["hand_mask"][:] = 1
    images = outpaint("a", **inputs, blending=blending, num_inference_steps=3, output_type="np").images
    np.testing.assert_array_equal(images, (inputs["canvas"] / 2 + 0.5).permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50])
def test_kept_cells_shrink_from_the_dilated_hand_to_the_hand(outpaint, monkeypatch, steps):
    seen: list[np.ndarray] = []
    monkeypatch.setattr(
        "h2d.pipelines.blending.blend", lambda known, other, mask: seen.append(mask[0, 0].numpy()) or other
    )
    always_predict(monkeypatch, outpaint, torch.zeros(1, 4, 16, 16))
    inputs = scene(count=1)
    inputs["hand_mask"][0, 0, 25:38, 22:41] = (torch.rand(13, 19, generator=seeded(0)[0]) > 0.3).float()
    options = {"num_inference_steps": steps, "unblended_last_steps": 0, "guidance_scale": 1.0}
    outpaint("a", **inputs, start_radius_px=80, output_type="latent", **options)

    hand = inputs["hand_mask"][0, 0].numpy()
    radius = 10  # 80 px at a side of 512 are 10 px at one of 64
    widest = ndimage.binary_dilation(hand, np.ones((2 * radius + 1, 2 * radius + 1)))
    first, last = (mask.reshape(16, 4, 16, 4).mean(axis=(1, 3)) > 0.5 for mask in (widest, hand))
    assert len(seen) == steps
    np.testing.assert_array_equal(seen[-1], last)
    if steps > 1:
        np.testing.assert_array_equal(seen[0], first)
        assert first.sum() > last.sum() > 0
    assert all((before >= after).all() for before, after in pairwise(seen))


@pytest.mark.parametrize("centre", [(48, 48), (20, 84)], ids=["inside", "leaving the frame"])
def test_pixels_of_a_hand_are_those_of_stage_one(pipeline, centre):
    """A square as large as the crop needs no resampling: 1.6 times a hand of 40 px is 64 px."""
    size = 96
    output = pipeline(
        "a", make_pose(left=(*centre, 40)), height=size, width=size, num_inference_steps=3, generator=seeded(0)[0]
    )
    ((place,),) = output.places
    assert place.box == CropBox(centre[0] - 32, centre[1] - 32, 64)
    rows, columns = np.nonzero(output.hand_masks[0][0][0].numpy() > 0.5)
    y, x = rows + place.box.y, columns + place.box.x
    inside = (y < size) & (x >= 0)
    assert inside.sum() > 100
    assert inside.all() == (centre == (48, 48))
    made, result = np.asarray(output.hand_images[0][0]), np.asarray(output.images[0])
    np.testing.assert_array_equal(result[y[inside], x[inside]], made[rows[inside], columns[inside]])


# --- geometry -------------------------------------------------------------------------------------------------------
def centroid(image: torch.Tensor) -> np.ndarray:
    weights = image[0].double().numpy()
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


def test_crop_and_paste_move_nothing():
    """A blob stays where it is to a twentieth of a pixel, and its picture nearly what it was, for 60 boxes."""
    random = np.random.default_rng(0)
    y, x = torch.meshgrid(torch.arange(90) + 0.5, torch.arange(120) + 0.5, indexing="ij")
    leaving = 0
    for _ in range(60):
        side = int(random.integers(32, 100))
        centre = random.uniform((16, 16), (104, 74))
        box = CropBox(*(int(value) for value in centre - random.uniform(0.35, 0.65, 2) * side), side)
        leaving += box.x < 0 or box.y < 0 or box.x + side > 120 or box.y + side > 90
        blob = torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 3.5**2))[None]
        blob[blob < 0.01] = 0
        small = crop(blob, box, 64)
        back = paste(torch.zeros_like(blob), small, box)
        np.testing.assert_allclose(centroid(back), centroid(blob), atol=0.05)
        np.testing.assert_allclose(centroid(small), box.to_crop(centroid(blob)[None], 64)[0], atol=0.05)
        assert (back - blob).abs().max() < 0.2
    assert 15 < leaving < 55


def whole_pose(size: int) -> np.ndarray:
    """Every keypoint somewhere, two of them missing."""
    pose = np.full((133, 3), 2, np.float32)
    pose[:, :2] = np.random.default_rng(5).uniform(0.3, 0.7, (133, 2)) * size
    pose[[9, 100], 2] = 0
    return pose


def mirrored(pose: np.ndarray, width: int) -> np.ndarray:
    other = pose[FLIP].copy()
    other[:, 0] = width - other[:, 0]
    return other


@pytest.mark.parametrize("wrist", ["all", "thumb", "none"])
def test_a_mirrored_pose_swaps_the_heat_maps_of_the_hands(wrist):
    pose = whole_pose(64)
    maps, other = (finger_heatmaps(each, 64, 2.0, wrist) for each in (pose, mirrored(pose, 64)))
    np.testing.assert_allclose(other, maps[[5, 6, 7, 8, 9, 0, 1, 2, 3, 4], :, ::-1], atol=1e-6)
    assert np.abs(other - maps[..., ::-1]).max() > 0.9


def test_a_mirrored_pose_is_drawn_mirrored_but_for_its_colours():
    """Within three pixels: OpenPose cuts off the fractions of a limb's centre, half length and angle in degrees."""
    pose = whole_pose(512)
    pose[FACE, 2] = 0
    picture, other = (draw_openpose(each, 512) for each in (pose, mirrored(pose, 512)))
    there, back = picture.any(axis=2)[:, ::-1], other.any(axis=2)
    near = np.ones((7, 7))
    assert not (there & ~ndimage.binary_dilation(back, near)).any()
    assert not (back & ~ndimage.binary_dilation(there, near)).any()
    assert (picture[:, ::-1] != other).any(axis=2).sum() > 0.2 * there.sum(), "left and right have their own colours"

"""Several people, other canvases, kept pixels, given layouts: what a call may ask for besides a pose and a text."""

import numpy as np
import pytest
import torch
from PIL import Image

from h2d.masks import hand_boxes, only_hands
from h2d.pipelines.hand import HandPipeline
from h2d.pipelines.outpaint import OutpaintPipeline
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.rendering import draw_openpose

from .conftest import as_bytes, fresh, make_pose

SIZE = 64
QUICK = {"num_inference_steps": 3}


# --- several people -------------------------------------------------------------------------------------------------
def test_several_people_are_painted_in_one_image(pipeline, poses):
    both = np.stack([make_pose(right=(12, 20, 12)), make_pose(right=(44, 20, 14), left=(50, 50, 12))])
    output = pipeline("two people", [both], generator=fresh(), output_type="pt", **QUICK)
    assert [(place.person, place.names) for place in output.places[0]] == [
        (0, ("right",)),
        (1, ("right",)),
        (1, ("left",)),
    ]
    assert len(output.images) == 1
    np.testing.assert_array_equal(output.skeletons[0], draw_openpose(both, SIZE))
    alone = pipeline("two people", both[0], generator=fresh(), output_type="pt", **QUICK)
    torch.testing.assert_close(output.hand_images[0][0], alone.hand_images[0][0], atol=1e-4, rtol=1e-4)


def test_images_with_different_numbers_of_people_share_a_batch(pipeline, poses):
    people = [poses[:2], poses[3]]
    together = pipeline("a", people, generator=[fresh(1), fresh(2)], output_type="pt", **QUICK)
    for index in range(2):
        alone = pipeline("a", [people[index]], generator=fresh(index + 1), output_type="pt", **QUICK)
        torch.testing.assert_close(alone.images[0], together.images[index], atol=2e-4, rtol=1e-4)


# --- other canvases -------------------------------------------------------------------------------------------------
def test_a_canvas_that_is_not_square(pipeline):
    pose = make_pose(right=(70, 20, 16), left=(20, 30, 16))
    output = pipeline("a", pose, height=48, width=96, generator=fresh(), **QUICK)
    assert output.images[0].size == (96, 48)
    assert output.canvas.shape == (1, 3, 48, 96)
    assert output.hand_images[0][0].size == (SIZE, SIZE)
    inside = output.hand_mask[0, 0].numpy() > 0
    assert inside[:, 60:].any()
    np.testing.assert_array_equal(np.asarray(output.images[0])[inside], as_bytes(output.canvas[0])[inside])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"height": 62}, "height must be a positive multiple of 4, got 62"),
        ({"width": -8}, "width must be a positive multiple of 4, got -8"),
    ],
)
def test_sizes_that_are_no_whole_cells_are_named(pipeline, pose, size, message):
    with pytest.raises(ValueError, match=message):
        pipeline("a", pose, **size)


# --- kept pixels ----------------------------------------------------------------------------------------------------
@pytest.fixture
def photograph() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))


def keep_around(pose: np.ndarray, hand: str) -> np.ndarray:
    ((box, _),) = hand_boxes(only_hands(pose, (hand,)))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[max(0, box.y) : box.y + box.side, max(0, box.x) : box.x + box.side] = 255
    return mask


@pytest.mark.parametrize("blending", ["sequential", "naive", "bbox"])
def test_kept_pixels_come_out_as_they_were_and_the_other_hand_is_made(pipeline, pose, photograph, blending):
    mask = keep_around(pose, "left")
    output = pipeline(
        "a", pose, image=photograph, keep_mask=Image.fromarray(mask), blending=blending, generator=fresh(), **QUICK
    )
    pixels, kept = np.asarray(output.images[0]), mask > 0
    np.testing.assert_array_equal(pixels[kept], np.asarray(photograph)[kept])
    assert [place.names for place in output.places[0]] == [("right",)]
    np.testing.assert_array_equal(output.skeletons[0], draw_openpose(pose, SIZE))
    assert output.hand_mask[0, 0].numpy()[kept].all()
    assert output.hand_mask[0, 0].numpy().sum() > kept.sum()
    outside = output.hand_mask[0, 0].numpy() == 0
    assert (pixels[outside] != np.asarray(photograph)[outside]).any()


def test_each_image_may_keep_its_own(pipeline, pose, photograph):
    masks = [keep_around(pose, "left"), np.zeros((SIZE, SIZE), np.uint8)]
    output = pipeline(
        "a",
        np.stack([pose, pose]),
        image=photograph,
        keep_mask=[Image.fromarray(mask) for mask in masks],
        generator=[fresh(), fresh()],
        **QUICK,
    )
    assert [[place.names for place in places] for places in output.places] == [[("right",)], [("right",), ("left",)]]


def test_every_form_of_a_picture_keeps_the_same_pixels(pipeline, pose, photograph):
    mask, picture = keep_around(pose, "left"), np.array(photograph)
    forms = {
        "pil": (photograph, Image.fromarray(mask)),
        "bytes": (picture, mask),
        "numbers": (picture / 255, mask / 255),
        "tensor": (torch.from_numpy(picture).permute(2, 0, 1)[None], torch.from_numpy(mask)[None, None]),
        "labels": ([picture[None]], (mask > 0)[None]),
    }
    for name, (image, keep) in forms.items():
        output = pipeline("a", pose, image=image, keep_mask=keep, generator=fresh(), num_inference_steps=1)
        np.testing.assert_array_equal(np.asarray(output.images[0])[mask > 0], picture[mask > 0], err_msg=name)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.full((64, 64, 3), np.nan), np.ones((64, 64)), "image must be uint8, or numbers in"),
        (np.full((64, 64, 3), 200.0), np.ones((64, 64)), "image must be uint8, or numbers in"),
        (np.zeros((64, 64, 3)), np.full((64, 64), 127, np.uint8), "keep_mask must be black and white"),
        (np.zeros((64, 64, 3)), np.full((64, 64), 1, np.uint8), "keep_mask must be black and white"),
        ([], np.ones((64, 64)), "image must be a picture or a list of 1, got an empty list"),
        ("photograph.jpg", np.ones((64, 64)), "image must be a PIL image, an array or a tensor, got a str"),
    ],
)
def test_pictures_that_would_be_misread_are_refused(pipeline, pose, image, mask, message):
    with pytest.raises(ValueError, match=message):
        pipeline("a", pose, image=image, keep_mask=mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pose": None}, "pose must be a NumPy array or a list of arrays, such as .*, got a NoneType"),
        ({"pose": [[1.0, 2.0, 2.0]] * 133}, "got a list of list"),
        ({"pose": [torch.zeros(133, 3)]}, "got a list of Tensor"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number of at least 0, got nan"),
        ({"eta": 5}, "eta must be a finite number between 0 and 1, got 5"),
        ({"start_radius_px": -5}, "start_radius_px must be a finite number between 0 and 4096, got -5"),
        ({"unblended_last_steps": 1.5}, "unblended_last_steps must be a whole number of at least 0"),
        ({"control_guidance_start": 0.9, "control_guidance_end": 0.1}, "0 <= start < end <= 1"),
        ({"hand_prompt": ["a", "b"]}, "hand_prompt must be one text or a list of 1, got 2"),
        ({"hand_labels": np.full((64, 64), 255, np.uint8)}, "hand_labels must be 0, 1 .right. and 2 .left., got 255"),
    ],
)
def test_numbers_and_kinds_are_checked(pipeline, pose, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**{"prompt": "a", "pose": pose, **options})


def test_the_pipeline_has_its_own_steps_guidance_and_radius(components, pose):
    own = {"num_inference_steps": 2, "guidance_scale": 1.0, "start_radius_px": 100.0}
    made = TwoStagePipeline(**components, image_size=SIZE, sigma_px=1.0, **own)
    made.set_progress_bar_config(disable=True)
    by_itself = made("a", pose, generator=fresh(), output_type="pt").images
    assert torch.equal(by_itself, made("a", pose, generator=fresh(), output_type="pt", **own).images)
    assert not torch.equal(
        by_itself, made("a", pose, generator=fresh(), output_type="pt", num_inference_steps=3).images
    )


def test_image_and_mask_are_checked(pipeline, pose, photograph):
    mask = Image.fromarray(keep_around(pose, "left"))
    with pytest.raises(ValueError, match="image and keep_mask go together"):
        pipeline("a", pose, image=photograph)
    with pytest.raises(ValueError, match=r"image must be a tensor \(1, 3, 64, 64\), got \(1, 3, 32, 32\)"):
        pipeline("a", pose, image=photograph.resize((32, 32)), keep_mask=mask)
    with pytest.raises(ValueError, match=r"keep_mask must be a tensor \(1, 1, 64, 64\), got"):
        pipeline("a", pose, image=photograph, keep_mask=mask.resize((32, 64)))


# --- hands whose layout is given ------------------------------------------------------------------------------------
def test_hand_labels_guide_stage_one(pipeline, pose, monkeypatch):
    seen = {}
    original = HandPipeline.__call__

    def spy(self, prompt, heatmaps, **options):
        seen.update(options)
        return original(self, prompt, heatmaps, **options)

    monkeypatch.setattr(HandPipeline, "__call__", spy)
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[:, :32], labels[:, 32:] = 1, 2
    pipeline("a", pose, hand_labels=labels, **QUICK)
    assert seen["hand_mask"].shape == (2, 1, SIZE, SIZE)
    assert seen["hand_mask"][0].float().mean() > 0.8, "the square around the right hand is right hand"
    with pytest.raises(ValueError, match=r"hand_labels must be uint8 \(64, 64\) or \(1, 64, 64\), got bool \(64, 64\)"):
        pipeline("a", pose, hand_labels=labels > 0)


# --- what diffusers' users know ---------------------------------------------------------------------------------------
def test_the_condition_is_embedded_once_and_the_controlnet_is_left_as_it_was(pipeline, pose):
    embedding, calls = pipeline.controlnet.controlnet_cond_embedding, []
    hook = embedding.conv_in.register_forward_hook(lambda *call: calls.append(1))
    pipeline("a", pose, generator=fresh(), **QUICK)
    hook.remove()
    assert len(calls) == 1
    assert "forward" not in vars(embedding)


def test_no_controlnet_outside_its_share_of_the_steps(pipeline, pose):
    calls = []
    hook = pipeline.controlnet.register_forward_hook(lambda *call: calls.append(1))
    pipeline("a", pose, control_guidance_start=0.25, control_guidance_end=0.5, num_inference_steps=4)
    hook.remove()
    assert len(calls) == 1


def test_interrupted_in_stage_one_the_images_are_the_canvases(pipeline, pose, monkeypatch):
    monkeypatch.setattr(OutpaintPipeline, "__call__", lambda *args, **options: pytest.fail("stage II ran"))

    def stop(stage, step, timestep, tensors):
        stage._interrupt = True

    output = pipeline("a", pose, callback_on_step_end=stop, generator=fresh(), **QUICK)
    np.testing.assert_array_equal(np.asarray(output.images[0]), as_bytes(output.canvas[0]))


def test_a_long_prompt_is_named_with_what_is_lost(pipeline, pose, caplog):
    output = pipeline("a b c d e f g h i j k l m n o p q r s", pose, **QUICK)
    assert any("it never sees 'o p q r s'" in line for line in output.warnings[0])
    assert "the prompt has 21 tokens, the text encoder reads 16: it never sees 'o p q r s'" in caplog.text

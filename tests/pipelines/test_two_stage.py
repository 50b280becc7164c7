import numpy as np
import pytest
import torch
from PIL import Image

from h2d.masks import hand_boxes, only_hands, shrink_maps
from h2d.pipelines.hand import HandPipeline
from h2d.pipelines.outpaint import OutpaintPipeline
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.rendering import draw_openpose, finger_heatmaps

from .conftest import make_pose

SIZE = 64
QUICK = {"num_inference_steps": 3}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_bytes(image: torch.Tensor) -> np.ndarray:
    return ((image / 2 + 0.5) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)


def test_what_comes_back(pipeline, pose):
    output = pipeline("a person waves", pose, generator=seeded(), **QUICK)
    assert output.images[0].size == (SIZE, SIZE)
    assert [image.size for image in output.hand_images[0]] == [(SIZE, SIZE)] * 2
    assert [mask.shape for mask in output.hand_masks[0]] == [(1, SIZE, SIZE)] * 2
    assert [place.names for place in output.places[0]] == [("right",), ("left",)]
    assert output.canvas.shape == (1, 3, SIZE, SIZE)
    assert output.hand_mask.shape == (1, 1, SIZE, SIZE)
    assert 0 < output.hand_mask.mean() < 0.5
    np.testing.assert_array_equal(output.skeletons[0], draw_openpose(pose, SIZE))
    assert isinstance(pipeline("a", pose, return_dict=False, output_type="pt", **QUICK), tuple)


@pytest.mark.parametrize("blending", ["sequential", "naive", "bbox"])
def test_hands_are_the_canvas_to_the_last_bit(pipeline, pose, blending):
    output = pipeline("a person", pose, blending=blending, generator=seeded(), **QUICK)
    pixels = np.asarray(output.images[0])
    canvas = as_bytes(output.canvas[0])
    inside = output.hand_mask[0, 0].numpy() > 0
    assert inside.any()
    np.testing.assert_array_equal(pixels[inside], canvas[inside])


def test_images_depend_on_nothing_else_of_the_batch(pipeline, poses):
    texts = ["one", "two", "three", "four"]
    options = {"output_type": "pt", **QUICK}
    together = pipeline(texts, poses, generator=[seeded(index) for index in range(4)], **options)
    assert [len(hands) for hands in together.hand_images] == [2, 0, 1, 1]
    for index, text in enumerate(texts):
        alone = pipeline(text, poses[index], generator=seeded(index), **options)
        torch.testing.assert_close(alone.images[0], together.images[index], atol=2e-4, rtol=1e-4)
        assert torch.equal(alone.hand_mask[0], together.hand_mask[index])
    one_for_all = pipeline("a", poses, generator=seeded(5), **options).images
    first_two = pipeline("a", poses[:2], generator=seeded(5), **options).images
    torch.testing.assert_close(one_for_all[:2], first_two, atol=2e-4, rtol=1e-4)


def test_one_hand_does_not_change_the_noise_of_the_other(pipeline, pose):
    both = pipeline("a", pose, generator=seeded(), output_type="pt", **QUICK)
    left = pipeline("a", only_hands(pose, ("left",)), generator=seeded(), output_type="pt", **QUICK)
    torch.testing.assert_close(both.hand_images[0][1], left.hand_images[0][0], atol=1e-4, rtol=1e-4)


def test_a_pose_without_hands_skips_stage_one(pipeline, poses, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("stage I ran")

    monkeypatch.setattr(pipeline.hand_unet, "forward", never)
    output = pipeline("a person", poses[1], generator=seeded(), **QUICK)
    assert output.hand_images == [[]]
    assert (output.canvas == -1).all()
    assert output.hand_mask.sum() == 0
    assert np.asarray(output.images[0]).std() > 0


def test_stage_one_sees_the_hand_of_the_box_and_nothing_of_the_other(pipeline, poses, monkeypatch):
    seen = {}
    original = HandPipeline.__call__

    def spy(self, prompt, heatmaps, **options):
        seen.update(prompt=prompt, heatmaps=heatmaps, **options)
        return original(self, prompt, heatmaps, **options)

    monkeypatch.setattr(HandPipeline, "__call__", spy)
    pipeline(["a", "b", "c", "d"], poses, hand_prompt=["h1", "h2", "h3", "h4"], negative_prompt="ugly", **QUICK)
    assert torch.equal(seen["prompt_embeds"], pipeline.parts.encode_text(["h1", "h1", "h3", "h4"]))
    assert torch.equal(seen["negative_prompt_embeds"], pipeline.parts.encode_text(["ugly"] * 4))
    heatmaps = seen["heatmaps"]
    assert heatmaps.shape == (4, 10, 16, 16)
    shown = [(maps[:5].max() > 0, maps[5:].max() > 0) for maps in heatmaps]
    assert shown == [(True, False), (False, True), (True, True), (False, True)]
    (box, names), _ = hand_boxes(poses[0])
    drawn = finger_heatmaps(only_hands(box.to_crop(poses[0], SIZE), names), SIZE, 1.0)
    torch.testing.assert_close(heatmaps[0], shrink_maps(torch.from_numpy(drawn)[None], 16)[0])


def test_stage_two_sees_skeleton_and_precise_mask(pipeline, pose, monkeypatch):
    seen = {}
    original = OutpaintPipeline.__call__

    def spy(self, prompt, hint, canvas, hand_mask, **options):
        seen.update(hint=hint, canvas=canvas, hand_mask=hand_mask, **options)
        return original(self, prompt, hint, canvas, hand_mask, **options)

    monkeypatch.setattr(OutpaintPipeline, "__call__", spy)
    output = pipeline("a", pose, blending="bbox", start_radius_px=10, unblended_last_steps=1, **QUICK)
    assert torch.equal(seen["hint"][:, 3:], output.hand_mask)
    np.testing.assert_allclose(seen["hint"][0, :3].permute(1, 2, 0).numpy() * 255, output.skeletons[0], atol=1e-4)
    assert seen["blend"] == "noised"
    assert seen["start_radius_px"] == 10
    assert seen["unblended_last_steps"] == 1
    boxes = torch.zeros(SIZE, SIZE)
    for box, *_ in output.places[0]:
        boxes[max(0, box.y) : box.y + box.side, max(0, box.x) : box.x + box.side] = 1
    assert torch.equal(seen["bbox_mask"][0, 0], boxes)


def test_blend_comes_from_the_pipeline_unless_the_caller_says_so(components, pose):
    literal = TwoStagePipeline(**components, image_size=SIZE, sigma_px=1.0, blend="clean")
    literal.set_progress_bar_config(disable=True)
    options = {"output_type": "pt", **QUICK}
    own = literal("a", pose, generator=seeded(), **options).images
    said = literal("a", pose, generator=seeded(), blend="clean", **options).images
    other = literal("a", pose, generator=seeded(), blend="noised", **options).images
    assert torch.equal(own, said)
    assert not torch.equal(own, other)


def test_callback_runs_in_both_stages(pipeline, pose):
    stages = []
    pipeline("a", pose, callback_on_step_end=lambda pipe, *rest: stages.append(type(pipe).__name__), **QUICK)
    assert stages == ["HandPipeline"] * 3 + ["OutpaintPipeline"] * 3


def test_global_randomness_is_untouched_when_a_generator_is_given(pipeline, pose):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    pipeline("a", pose, generator=seeded(), **QUICK)
    assert torch.equal(torch.get_rng_state(), before)


def test_warnings_name_the_hand(pipeline, poses, caplog):
    pose = poses[0].copy()
    pose[:17, 2] = 0
    pipeline("a", pose, **QUICK)
    assert "the right hand has no arm in the pose (elbow and wrist missing)" in caplog.text
    assert "the left hand has no arm" in caplog.text
    said = len(caplog.records)
    pipeline("a", pose, **QUICK)
    assert len(caplog.records) == said, "once is enough"


def test_wrong_arguments_are_named_before_anything_is_sampled(pipeline, pose, monkeypatch):
    monkeypatch.setattr(HandPipeline, "__call__", lambda *args, **options: pytest.fail("stage I ran"))
    bad = pose.copy()
    bad[112] = (np.nan, 0, 2)
    far = pose.copy()
    far[120] = (10, -4000, 2)
    cases = [
        ({"pose": far}, "pose must be in pixels of the 64 x 64 canvas, got a coordinate of 4000"),
        ({"pose": pose[:100]}, r"pose must be an array \(133, 3\), \(B, 133, 3\), or a list .* got \(100, 3\)"),
        ({"pose": bad}, "finite"),
        ({"blending": "soft"}, "blending must be one of"),
        ({"blend": "soft"}, "blend must be one of"),
        ({"output_type": "latent"}, "output_type must be one of"),
        ({"prompt": ["a", "b"], "pose": pose[None]}, "prompt must be one text or a list of 1, got 2"),
        ({"generator": [seeded(), seeded()]}, "generator must be one or a list of 1"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            pipeline(**{"prompt": "a", "pose": pose, **arguments})


def test_unlabelled_keypoints_may_be_nan(pipeline, pose):
    pose[pose[:, 2] == 0] = (np.nan, np.nan, 0)
    assert np.asarray(pipeline("a", pose, **QUICK).images[0]).std() > 0


def test_components_that_wait_on_the_cpu(pipeline, pose):
    """Offload hooks, which move a network when its turn comes, find every call."""
    from accelerate import cpu_offload_with_hook

    expected = pipeline("a", pose, generator=seeded(), output_type="pt", **QUICK).images
    before = None
    for name in [*pipeline.model_cpu_offload_seq.split("->"), "controlnet"]:
        before = cpu_offload_with_hook(getattr(pipeline, name), torch.device("cpu"), prev_module_hook=before)[1]
    try:
        assert torch.equal(pipeline("a", pose, generator=seeded(), output_type="pt", **QUICK).images, expected)
    finally:
        pipeline.remove_all_hooks()


def test_one_pose_serves_several_prompts(pipeline, pose):
    assert len(pipeline(["a", "b"], pose, **QUICK).images) == 2


# --- several people -------------------------------------------------------------------------------------------------
def test_several_people_are_painted_in_one_image(pipeline, poses):
    both = np.stack([make_pose(right=(12, 20, 12)), make_pose(right=(44, 20, 14), left=(50, 50, 12))])
    output = pipeline("two people", [both], generator=seeded(), output_type="pt", **QUICK)
    assert [(place.person, place.names) for place in output.places[0]] == [
        (0, ("right",)),
        (1, ("right",)),
        (1, ("left",)),
    ]
    assert len(output.images) == 1
    np.testing.assert_array_equal(output.skeletons[0], draw_openpose(both, SIZE))
    alone = pipeline("two people", both[0], generator=seeded(), output_type="pt", **QUICK)
    torch.testing.assert_close(output.hand_images[0][0], alone.hand_images[0][0], atol=1e-4, rtol=1e-4)


def test_images_with_different_numbers_of_people_share_a_batch(pipeline, poses):
    people = [poses[:2], poses[3]]
    together = pipeline("a", people, generator=[seeded(1), seeded(2)], output_type="pt", **QUICK)
    for index in range(2):
        alone = pipeline("a", [people[index]], generator=seeded(index + 1), output_type="pt", **QUICK)
        torch.testing.assert_close(alone.images[0], together.images[index], atol=2e-4, rtol=1e-4)


# --- other canvases -------------------------------------------------------------------------------------------------
def test_a_canvas_that_is_not_square(pipeline):
    pose = make_pose(right=(70, 20, 16), left=(20, 30, 16))
    output = pipeline("a", pose, height=48, width=96, generator=seeded(), **QUICK)
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
        "a", pose, image=photograph, keep_mask=Image.fromarray(mask), blending=blending, generator=seeded(), **QUICK
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
        generator=[seeded(), seeded()],
        **QUICK,
    )
    assert [[place.names for place in places] for places in output.places] == [[("right",)], [("right",), ("left",)]]


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
    assert seen["hand_mask"][0].mean() > 0.8, "the square around the right hand is right hand"
    with pytest.raises(ValueError, match=r"hand_labels must be uint8 \(64, 64\) or \(1, 64, 64\), got bool \(64, 64\)"):
        pipeline("a", pose, hand_labels=labels > 0)


# --- what diffusers' users know ---------------------------------------------------------------------------------------
def test_the_condition_is_embedded_once_and_the_controlnet_is_left_as_it_was(pipeline, pose):
    embedding, calls = pipeline.controlnet.controlnet_cond_embedding, []
    hook = embedding.conv_in.register_forward_hook(lambda *call: calls.append(1))
    pipeline("a", pose, generator=seeded(), **QUICK)
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

    output = pipeline("a", pose, callback_on_step_end=stop, generator=seeded(), **QUICK)
    np.testing.assert_array_equal(np.asarray(output.images[0]), as_bytes(output.canvas[0]))


def test_a_long_prompt_is_named_with_what_is_lost(pipeline, pose, caplog):
    pipeline("a b c d e f g h i j k l m n o p q r s", pose, **QUICK)
    assert "the prompt has 21 tokens, the text encoder reads 16: it never sees 'o p q r s'" in caplog.text

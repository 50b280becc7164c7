import numpy as np
import pytest
import torch

from h2d.masks import hand_boxes, only_hands, shrink_maps
from h2d.pipelines.hand import HandPipeline
from h2d.pipelines.outpaint import OutpaintPipeline
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.rendering import draw_openpose, finger_heatmaps

from .conftest import as_bytes, fresh

SIZE = 64
QUICK = {"num_inference_steps": 3}


def test_what_comes_back(pipeline, pose):
    output = pipeline("a person waves", pose, generator=fresh(), **QUICK)
    assert output.images[0].size == (SIZE, SIZE)
    assert [image.size for image in output.hand_images[0]] == [(SIZE, SIZE)] * 2
    assert [mask.shape for mask in output.hand_masks[0]] == [(1, SIZE, SIZE)] * 2
    assert [place.names for place in output.places[0]] == [("right",), ("left",)]
    assert output.canvas.shape == (1, 3, SIZE, SIZE)
    assert output.hand_mask.shape == (1, 1, SIZE, SIZE)
    assert 0 < output.hand_mask.mean() < 0.5
    np.testing.assert_array_equal(output.skeletons[0], draw_openpose(pose, SIZE))
    assert isinstance(pipeline("a", pose, return_dict=False, output_type="pt", **QUICK), tuple)


def test_hands_of_another_size_than_the_canvas(components, pose, monkeypatch):
    made = TwoStagePipeline(**components, image_size=SIZE, hand_size=32, sigma_px=1.0)
    made.set_progress_bar_config(disable=True)
    seen = []
    original = HandPipeline.__call__
    monkeypatch.setattr(
        HandPipeline, "__call__", lambda *given, **more: (seen.append(given[2]), original(*given, **more))[1]
    )
    output = made("a person waves", pose, generator=fresh(), **QUICK)
    assert seen[0].shape == (2, 10, 8, 8)
    (box, names), _ = hand_boxes(pose)
    drawn = finger_heatmaps(only_hands(box.to_crop(pose, 32), names), 32, 1.0)
    torch.testing.assert_close(seen[0][0], shrink_maps(torch.from_numpy(drawn)[None], 8)[0])
    assert output.images[0].size == (SIZE, SIZE)
    assert [image.size for image in output.hand_images[0]] == [(32, 32)] * 2
    assert [mask.shape for mask in output.hand_masks[0]] == [(1, 32, 32)] * 2
    inside = output.hand_mask[0, 0].numpy() > 0
    assert inside.any()
    np.testing.assert_array_equal(np.asarray(output.images[0])[inside], as_bytes(output.canvas[0])[inside])


@pytest.mark.parametrize("blending", ["sequential", "naive", "bbox"])
def test_hands_are_the_canvas_to_the_last_bit(pipeline, pose, blending):
    output = pipeline("a person", pose, blending=blending, generator=fresh(), **QUICK)
    pixels = np.asarray(output.images[0])
    canvas = as_bytes(output.canvas[0])
    inside = output.hand_mask[0, 0].numpy() > 0
    assert inside.any()
    np.testing.assert_array_equal(pixels[inside], canvas[inside])


def test_images_depend_on_nothing_else_of_the_batch(pipeline, poses):
    texts = ["one", "two", "three", "four"]
    options = {"output_type": "pt", **QUICK}
    together = pipeline(texts, poses, generator=[fresh(index) for index in range(4)], **options)
    assert [len(hands) for hands in together.hand_images] == [2, 0, 1, 1]
    for index, text in enumerate(texts):
        alone = pipeline(text, poses[index], generator=fresh(index), **options)
        torch.testing.assert_close(alone.images[0], together.images[index], atol=2e-4, rtol=1e-4)
        assert torch.equal(alone.hand_mask[0], together.hand_mask[index])
    one_for_all = pipeline("a", poses, generator=fresh(5), **options).images
    first_two = pipeline("a", poses[:2], generator=fresh(5), **options).images
    torch.testing.assert_close(one_for_all[:2], first_two, atol=2e-4, rtol=1e-4)


def test_one_hand_does_not_change_the_noise_of_the_other(pipeline, pose):
    both = pipeline("a", pose, generator=fresh(), output_type="pt", **QUICK)
    left = pipeline("a", only_hands(pose, ("left",)), generator=fresh(), output_type="pt", **QUICK)
    torch.testing.assert_close(both.hand_images[0][1], left.hand_images[0][0], atol=1e-4, rtol=1e-4)


def test_a_pose_without_hands_skips_stage_one(pipeline, poses, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("stage I ran")

    monkeypatch.setattr(pipeline.hand_unet, "forward", never)
    output = pipeline("a person", poses[1], generator=fresh(), **QUICK)
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
    own = literal("a", pose, generator=fresh(), **options).images
    said = literal("a", pose, generator=fresh(), blend="clean", **options).images
    other = literal("a", pose, generator=fresh(), blend="noised", **options).images
    assert torch.equal(own, said)
    assert not torch.equal(own, other)


def test_callback_runs_in_both_stages(pipeline, pose):
    stages = []
    pipeline("a", pose, callback_on_step_end=lambda pipe, *rest: stages.append(type(pipe).__name__), **QUICK)
    assert stages == ["HandPipeline"] * 3 + ["OutpaintPipeline"] * 3


def test_global_randomness_is_untouched_when_a_generator_is_given(pipeline, pose):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    pipeline("a", pose, generator=fresh(), **QUICK)
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
        ({"generator": [fresh(), fresh()]}, "generator must be one or a list of 1"),
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

    expected = pipeline("a", pose, generator=fresh(), output_type="pt", **QUICK).images
    before = None
    for name in [*pipeline.model_cpu_offload_seq.split("->"), "controlnet"]:
        before = cpu_offload_with_hook(getattr(pipeline, name), torch.device("cpu"), prev_module_hook=before)[1]
    try:
        assert torch.equal(pipeline("a", pose, generator=fresh(), output_type="pt", **QUICK).images, expected)
    finally:
        pipeline.remove_all_hooks()


def test_one_pose_serves_several_prompts(pipeline, pose):
    assert len(pipeline(["a", "b"], pose, **QUICK).images) == 2

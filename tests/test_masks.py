import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from scipy import ndimage

from h2d import masks
from h2d.masks import CropBox
from h2d.skeleton import LEFT_HAND, RIGHT_HAND


def pose_with(right: tuple[float, float, float, float] | None = None, left=None) -> np.ndarray:
    """A pose whose hands fill the given x0, y0, x1, y1 boxes."""
    pose = np.zeros((133, 3), np.float32)
    for part, box in ((RIGHT_HAND, right), (LEFT_HAND, left)):
        if box:
            pose[part] = [*np.random.default_rng(0).uniform(box[:2], box[2:]).tolist(), 2]
            pose[part, :2] = np.random.default_rng(0).uniform(box[:2], box[2:], (21, 2))
            pose[part][0, :2], pose[part][1, :2] = box[:2], box[2:]
    return pose


# --- hands and boxes ------------------------------------------------------------------------------------------------
def test_present_hands_are_listed_right_first():
    assert masks.present_hands(pose_with()) == []
    assert masks.present_hands(pose_with(left=(0, 0, 9, 9))) == ["left"]
    assert masks.present_hands(pose_with((0, 0, 9, 9), (50, 50, 60, 60))) == ["right", "left"]


def test_a_hand_of_one_keypoint_is_present():
    pose = pose_with()
    pose[RIGHT_HAND.start + 4] = (20, 30, 1)
    ((box, hands),) = masks.hand_boxes(pose)
    assert hands == ("right",)
    assert box == CropBox(12, 22, 16)


def test_box_is_a_square_of_margin_times_the_longer_side():
    ((box, hands),) = masks.hand_boxes(pose_with((100, 40, 200, 90)), margin=1.6)
    assert (box, hands) == (CropBox(70, -15, 160), ("right",))


def test_separate_hands_have_separate_boxes_and_interacting_hands_share_one():
    apart = masks.hand_boxes(pose_with((0, 0, 50, 50), (100, 0, 150, 50)))
    assert [hands for _, hands in apart] == [("right",), ("left",)]
    ((box, hands),) = masks.hand_boxes(pose_with((0, 0, 50, 50), (40, 40, 100, 90)), margin=1.0)
    assert (box, hands) == (CropBox(0, -5, 100), ("right", "left"))
    touching = masks.hand_boxes(pose_with((0, 0, 50, 50), (50, 0, 90, 50)))
    assert len(touching) == 2


def test_only_hands_leaves_the_rest_of_the_pose():
    pose = pose_with((0, 0, 9, 9), (20, 20, 30, 30))
    kept = masks.only_hands(pose, ("left",))
    assert masks.present_hands(kept) == ["left"]
    assert masks.present_hands(pose) == ["right", "left"]


# --- crop and paste -------------------------------------------------------------------------------------------------
def test_points_move_to_the_crop_and_back():
    box = CropBox(-10, 20, 80)
    points = np.array([[-10, 20, 2], [70, 100, 1], [30, 60, 0]], np.float32)
    moved = box.to_crop(points, 64)
    np.testing.assert_allclose(moved, [[0, 0, 2], [64, 64, 1], [32, 32, 0]])
    np.testing.assert_allclose(box.to_image(moved, 64), points, rtol=1e-6)
    assert points[0, 0] == -10, "the input is not changed"


@pytest.mark.parametrize("box", [CropBox(3, 5, 16), CropBox(-6, 20, 16), CropBox(25, -4, 16), CropBox(-2, -2, 36)])
def test_crop_and_paste_at_scale_one_is_the_identity(box):
    image = torch.rand(3, 32, 32) * 2 - 1
    patch = masks.crop(image, box, box.side, fill=-9.0)
    assert torch.equal(masks.paste(image, patch, box), image)
    mask = (torch.rand(1, box.side, box.side) > 0.5).float()
    pasted = masks.paste(torch.full_like(image, -1), patch, box, mask)
    hit = masks.paste(torch.zeros(1, 32, 32), mask, box) > 0.5
    assert torch.equal(pasted, torch.where(hit, image, torch.tensor(-1.0)))


def test_crop_fills_outside_the_image():
    patch = masks.crop(torch.ones(2, 3, 8, 8), CropBox(-4, -4, 8), 8, fill=-1.0)
    assert patch.shape == (2, 3, 8, 8)
    assert (patch[..., :4, :] == -1).all()
    assert (patch[..., 4:, 4:] == 1).all()


def test_box_beyond_the_frame_gives_fill_and_changes_nothing():
    image = torch.rand(3, 16, 16)
    box = CropBox(40, 2, 8)
    assert (masks.crop(image, box, 8, fill=0.5) == 0.5).all()
    assert torch.equal(masks.paste(image, torch.ones(3, 8, 8), box), image)


@pytest.mark.parametrize(("side", "size"), [(96, 64), (40, 64), (64, 64), (37, 128)])
def test_crop_paste_round_trip_moves_nothing_by_a_pixel(side, size):
    """The centre of a soft blob stays where it is."""
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    centre = (61.3, 58.7)
    blob = torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 5.0**2))[None]
    box = CropBox(61 - side // 2, 58 - side // 2, side)
    back = masks.paste(torch.zeros_like(blob), masks.crop(blob, box, size), box)[0]
    found = ((back * x).sum() / back.sum(), (back * y).sum() / back.sum())
    assert abs(found[0] - centre[0]) < 0.5
    assert abs(found[1] - centre[1]) < 0.5

    point = np.array([[*centre, 2]])
    in_crop = masks.crop(blob, box, size)[0]
    ys, xs = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    seen = ((in_crop * xs).sum() / in_crop.sum(), (in_crop * ys).sum() / in_crop.sum())
    np.testing.assert_allclose(seen, box.to_crop(point, size)[0, :2], atol=0.75 * size / side)


def test_paste_keeps_the_colour_of_edge_pixels_clean():
    """No part of the removed background survives in the pasted hand, although the crop is shrunk."""
    patch = torch.full((3, 64, 64), -0.5)
    mask = torch.zeros(1, 64, 64)
    mask[:, 13:50, 17:49] = 1
    patch = torch.where(mask > 0, 0.8, patch)
    pasted = masks.paste(torch.full((3, 32, 32), -1.0), patch, CropBox(2, 3, 23), mask)
    assert {round(value, 4) for value in pasted.unique().tolist()} == {-1.0, 0.8}


# --- dilation, schedule, blending -----------------------------------------------------------------------------------
@pytest.mark.parametrize("radius", [0, 1, 3, 10])
def test_dilate_equals_scipy_and_repeated_3x3(radius):
    mask = (torch.rand(2, 1, 40, 33, generator=torch.Generator().manual_seed(1)) > 0.985).float()
    ours = masks.dilate(mask, radius)
    square = np.ones((2 * radius + 1, 2 * radius + 1))
    for got, plain in zip(ours[:, 0].numpy(), mask[:, 0].numpy(), strict=True):
        np.testing.assert_array_equal(got, ndimage.binary_dilation(plain, square))
        if radius:
            np.testing.assert_array_equal(got, ndimage.binary_dilation(plain, np.ones((3, 3)), iterations=radius))


def test_expansion_is_one_pixel_a_step_at_fifty_steps():
    assert [masks.expansion_radius(step, 50, 49) for step in range(50)] == list(range(49, -1, -1))


def test_expansion_does_not_depend_on_the_number_of_steps():
    for steps in (2, 10, 20, 200):
        radii = [masks.expansion_radius(step, steps, 49) for step in range(steps)]
        assert radii[0] == 49
        assert radii[-1] == 0
        assert radii == sorted(radii, reverse=True)
        assert abs(radii[steps // 2] - 49 * (1 - steps // 2 / (steps - 1))) <= 0.5
    assert masks.expansion_radius(0, 1, 49) == 0


def test_to_latent_takes_cells_that_are_more_than_half_hand():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8, :8] = 1
    mask[..., :4, 8:] = 1  # exactly half of the cell
    mask[..., 8:13, :8] = 1
    assert masks.to_latent(mask, 8).tolist() == [[[[1, 0], [1, 0]]]]


def test_shrink_maps_is_plain_bilinear():
    maps = torch.zeros(1, 1, 16, 16)
    maps[..., 3:5, 3:5] = 1
    assert masks.shrink_maps(maps, 2)[0, 0].tolist() == [[1, 0], [0, 0]]


def test_blend_is_equation_11():
    mask = torch.tensor([1.0, 0.0])
    assert masks.blend(torch.tensor([3.0, 3.0]), torch.tensor([5.0, 5.0]), mask).tolist() == [3, 5]


def test_canvas_at_level():
    scheduler = DDIMScheduler(num_train_timesteps=1000)
    canvas, noise = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    timesteps = torch.tensor([10, 900])
    alpha = scheduler.alphas_cumprod[timesteps].view(2, 1, 1, 1)
    expected = alpha.sqrt() * canvas + (1 - alpha).sqrt() * noise
    torch.testing.assert_close(masks.canvas_at(scheduler, canvas, noise, timesteps, "noised"), expected)
    assert masks.canvas_at(scheduler, canvas, noise, timesteps, "clean") is canvas
    assert masks.canvas_at(scheduler, canvas, noise, None, "noised") is canvas
    with pytest.raises(ValueError, match="'soft'"):
        masks.canvas_at(scheduler, canvas, noise, timesteps, "soft")

import numpy as np
import pytest
import torch

from h2d.data.augment import Augment
from h2d.data.samples import hand_example, outpaint_example
from h2d.data.schema import Sample
from h2d.errors import DataError
from h2d.skeleton import HAND_SLICES, RIGHT_HAND

SETTINGS = {"size": 64, "margin": 1.6, "sigma_px": 4.0, "wrist": "all", "latent_size": 16, "augment": None}


def sample_with(right=None, left=None, size=200):
    """Red right hand and green left hand on grey; boxes are (x0, y0, x1, y1) and hold the keypoints."""
    image = np.full((size, size, 3), 100, np.uint8)
    hands, pose, rng = np.zeros((size, size), np.uint8), np.zeros((133, 3), np.float32), np.random.default_rng(0)
    for label, (name, box) in enumerate((("right", right), ("left", left)), 1):
        if box:
            x0, y0, x1, y1 = box
            image[y0:y1, x0:x1] = (200, 0, 0) if label == 1 else (0, 200, 0)
            hands[y0:y1, x0:x1] = label
            points = np.concatenate([rng.uniform((x0, y0), (x1, y1), (21, 2)), np.full((21, 1), 2)], 1)
            points[:2, :2] = (x0, y0), (x1, y1)
            pose[HAND_SLICES[name]] = points
    return Sample("s/0", image, hands, pose, "a person", {})


def test_one_hand_is_centred_and_its_mask_exact():
    example = hand_example(sample_with(right=(80, 80, 120, 120)), rng=None, **SETTINGS)
    assert example["image"].shape == (3, 64, 64)
    assert example["heatmaps"].shape == (10, 16, 16)
    assert example["hand_mask"].shape == (1, 64, 64)
    # A box of 40 in a square of 64: the crop is not resized at all.
    expected = torch.zeros(1, 64, 64)
    expected[:, 12:52, 12:52] = 1
    assert torch.equal(example["hand_mask"], expected)
    assert example["image"][:, 32, 32].tolist() == pytest.approx([200 / 127.5 - 1, -1, -1])
    assert example["heatmaps"][:5].amax(dim=(1, 2)).min() > 0.7
    assert example["heatmaps"][5:].max() == 0
    assert (example["caption"], example["key"]) == ("a person", "s/0")


def test_heat_maps_lie_on_the_keypoints():
    sample = sample_with(right=(80, 80, 120, 120))
    example = hand_example(sample, rng=None, **SETTINGS)
    for finger in range(5):
        x, y = (sample.pose[RIGHT_HAND][4 + 4 * finger, :2] - 68) / 4
        assert example["heatmaps"][finger, min(int(y), 15), min(int(x), 15)] > 0.6


def test_of_two_hands_apart_one_is_drawn_at_random():
    sample = sample_with(right=(20, 20, 60, 60), left=(130, 130, 170, 170))
    rng, shown = np.random.default_rng(0), []
    for _ in range(20):
        maps = hand_example(sample, rng=rng, **SETTINGS)["heatmaps"]
        right, left = bool(maps[:5].max() > 0), bool(maps[5:].max() > 0)
        assert right != left
        shown.append(right)
    assert set(shown) == {True, False}
    assert hand_example(sample, rng=None, **SETTINGS)["heatmaps"][:5].max() > 0, "without randomness the first box"


def test_hands_that_meet_share_the_crop():
    example = hand_example(sample_with(right=(80, 80, 120, 120), left=(100, 100, 140, 140)), rng=None, **SETTINGS)
    assert (example["heatmaps"][:5].max() > 0) & (example["heatmaps"][5:].max() > 0)
    coloured = example["image"][:2].amax(dim=0) > 0.5
    covered = example["hand_mask"][0] > 0
    assert (coloured == covered).float().mean() > 0.9


def test_a_hand_of_another_box_is_not_in_the_mask():
    example = hand_example(sample_with(right=(80, 80, 120, 120), left=(121, 80, 161, 120)), rng=None, **SETTINGS)
    assert (example["image"][1, :, 54:] > 0.5).any(), "the left hand reaches into the picture"
    assert example["hand_mask"][0, :, 54:].max() == 0
    assert example["heatmaps"][5:].max() == 0


def test_a_box_beyond_the_frame_is_black_there():
    example = hand_example(sample_with(right=(0, 0, 40, 40)), rng=None, **SETTINGS)
    assert (example["image"][:, :10] == -1).all()


def test_no_hand_is_an_error_that_names_the_sample():
    with pytest.raises(DataError, match="s/0 has no labelled hand"):
        hand_example(sample_with(), rng=None, **SETTINGS)


def test_colours_change_only_with_a_generator():
    settings = SETTINGS | {"augment": Augment(0.1, 0.2, 0.2)}
    sample = sample_with(right=(80, 80, 120, 120))
    plain = hand_example(sample, rng=None, **SETTINGS)["image"]
    assert torch.equal(plain, hand_example(sample, rng=None, **settings)["image"])
    once, again, other = (hand_example(sample, rng=np.random.default_rng(s), **settings)["image"] for s in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert not torch.equal(once, plain)


def test_augmentation_against_its_definition():
    image = torch.rand(3, 8, 8) * 0.6 - 0.3
    augment, rng = Augment(0.1, 0.2, 0.3), np.random.default_rng(0)
    shift, brightness, contrast = rng.uniform(-0.1, 0.1, 3), 1 + rng.uniform(-0.2, 0.2), 1 + rng.uniform(-0.3, 0.3)
    unit = (image + 1) / 2 * brightness + torch.tensor(shift).view(3, 1, 1)
    unit = (unit - unit.mean()) * contrast + unit.mean()
    changed = augment(image, np.random.default_rng(0))
    assert torch.allclose(changed, (2 * unit - 1).clamp(-1, 1).float(), atol=1e-5)
    assert augment(torch.ones(3, 4, 4), np.random.default_rng(3)).abs().max() <= 1


def test_a_person_with_its_canvas_and_hint():
    sample = sample_with(right=(20, 20, 60, 60), left=(130, 130, 170, 170))
    example = outpaint_example(sample, size=100)
    mask = example["hand_mask"]
    assert mask.sum() == 2 * 20 * 20
    assert torch.equal(example["hint"][3:], mask)
    assert example["hint"].min() >= 0
    assert example["hint"].max() <= 1
    assert torch.equal(example["canvas"] == -1, (mask == 0) | (example["image"] == -1))
    assert torch.equal(example["canvas"] * mask, example["image"] * mask)
    assert example["hint"][2, 15:30, 15:30].max() == 1, "hand joints are drawn blue"


def test_the_left_hand_is_the_persons_own():
    maps = hand_example(sample_with(left=(80, 80, 120, 120)), rng=None, **SETTINGS)["heatmaps"]
    assert maps[:5].max() == 0
    assert maps[5:].max() > 0

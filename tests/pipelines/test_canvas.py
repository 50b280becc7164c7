import torch

from h2d.masks import CropBox
from h2d.pipelines.canvas import HandPlace, PlacedHand, compose_canvas, keep_pixels


def hand(box: CropBox, value: float, around: float = 0.0) -> PlacedHand:
    """A hand of one colour that fills the middle of its crop, on a background of another."""
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:24, 8:24] = 0.9
    return PlacedHand(HandPlace(box, ("right",)), torch.where(mask > 0.5, value, around).expand(3, -1, -1), mask)


def test_no_hand_is_an_empty_canvas():
    canvas = compose_canvas([], 64, 64)
    assert canvas.image.shape == (3, 64, 64)
    assert (canvas.image == -1).all()
    assert canvas.hand_mask.shape == canvas.bbox_mask.shape == (1, 64, 64)
    assert canvas.hand_mask.sum() == canvas.bbox_mask.sum() == 0


def test_background_is_removed_and_the_hand_is_in_its_place():
    canvas = compose_canvas([hand(CropBox(10, 20, 16), 0.5)], 64, 64)
    assert (canvas.image[:, 24:32, 14:22] == 0.5).all()
    assert canvas.hand_mask.sum() == 64
    assert (canvas.image[:, canvas.hand_mask[0] == 0] == -1).all()
    assert canvas.bbox_mask.sum() == 256


def test_the_nearer_hand_covers_the_farther_one_whatever_their_order():
    far, near = hand(CropBox(10, 10, 16), -0.5), hand(CropBox(8, 8, 24), 0.5)
    for hands in ([far, near], [near, far]):
        image = compose_canvas(hands, 64, 64).image
        assert (image[:, 14:26, 14:26] == 0.5).all()


def test_with_background_no_square_hides_a_hand():
    far, near = hand(CropBox(4, 4, 16), -0.5, around=0.1), hand(CropBox(14, 4, 32), 0.5, around=0.2)
    canvas = compose_canvas([far, near], 64, 64, with_background=True)
    assert torch.isclose(canvas.image[:, 8:16, 8:16], torch.tensor(-0.5)).all()
    assert torch.isclose(canvas.image[0, 5, 5], torch.tensor(0.1))
    assert torch.isclose(canvas.image[0, 5, 40], torch.tensor(0.2))
    assert (canvas.image[:, canvas.bbox_mask[0] == 0] == -1).all()


def test_hand_at_the_edge_is_clipped():
    canvas = compose_canvas([hand(CropBox(-8, 56, 16), 0.5)], 64, 64)
    assert canvas.hand_mask.sum() == 4 * 4
    assert canvas.hand_mask[0, 60:, :4].all()


def test_a_canvas_need_not_be_square():
    canvas = compose_canvas([hand(CropBox(60, 4, 16), 0.5)], 32, 96)
    assert canvas.image.shape == (3, 32, 96)
    assert (canvas.image[:, 8:16, 64:72] == 0.5).all()


def test_kept_pixels_lie_over_the_hands():
    canvas = compose_canvas([hand(CropBox(10, 20, 16), 0.5)], 64, 64)
    keep = torch.zeros(1, 64, 64)
    keep[:, :, :16] = 1
    kept = keep_pixels(canvas, torch.full((3, 64, 64), 0.25), keep)
    assert (kept.image[:, :, :16] == 0.25).all()
    assert torch.equal(kept.image[:, :, 16:], canvas.image[:, :, 16:])
    assert torch.equal(kept.hand_mask, torch.maximum(canvas.hand_mask, keep))
    assert torch.equal(kept.bbox_mask, torch.maximum(canvas.bbox_mask, keep))

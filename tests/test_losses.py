import pytest
import torch

from h2d.losses import hand_loss, masked_l2, min_snr_weight


def test_hand_loss_by_hand():
    noise, predicted = torch.zeros(1, 4, 1, 1), torch.tensor([1.0, 2, 0, 1]).view(1, 4, 1, 1)
    mask, mask_pred = torch.tensor([[1.0, 0.0]]).view(1, 1, 1, 2), torch.tensor([[0.5, 2.0]]).view(1, 1, 1, 2)
    loss = hand_loss(noise, predicted, mask, mask_pred, mask_weight=0.5)
    assert loss.ldm.item() == pytest.approx(6 / 4)
    assert loss.mask.item() == pytest.approx((0.25 + 4) / 2)
    assert loss.total.item() == pytest.approx(1.5 + 0.5 * 2.125)


def test_masked_l2_by_hand():
    noise = torch.zeros(1, 2, 1, 3)
    predicted = torch.tensor([[1.0, 2, 100], [3, 0, 100]]).view(1, 2, 1, 3)
    mask = torch.tensor([0.0, 0, 1]).view(1, 1, 1, 3)
    assert masked_l2(noise, predicted, mask).item() == pytest.approx((1 + 4 + 9 + 0) / (2 * 2))


def test_masked_l2_has_no_gradient_inside_the_hand():
    predicted = torch.randn(2, 4, 4, 4, requires_grad=True)
    mask = torch.zeros(2, 1, 4, 4)
    mask[..., :2] = 1
    masked_l2(torch.randn(2, 4, 4, 4), predicted, mask).backward()
    assert (predicted.grad[..., :2] == 0).all()
    assert (predicted.grad[..., 2:] != 0).any()


def test_large_hands_do_not_count_less():
    """The same error outside gives the same loss however much of the image is hand."""
    noise, predicted = torch.zeros(1, 4, 8, 8), torch.full((1, 4, 8, 8), 0.5)
    small, large = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    small[..., 0, 0], large[..., 0, 0] = 1, 0
    assert masked_l2(noise, predicted, small).item() == pytest.approx(0.25)
    assert masked_l2(noise, predicted, large).item() == pytest.approx(0.25)


def test_masked_l2_of_nothing_to_paint_is_zero():
    predicted = torch.randn(1, 4, 2, 2, requires_grad=True)
    loss = masked_l2(torch.randn(1, 4, 2, 2), predicted, torch.ones(1, 1, 2, 2))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(predicted.grad).all()


def test_losses_are_float32_for_half_precision_predictions():
    noise = torch.randn(2, 4, 4, 4)
    mask = torch.zeros(2, 1, 4, 4)
    assert masked_l2(noise, noise.bfloat16(), mask).dtype == torch.float32
    assert hand_loss(noise, noise.bfloat16(), mask, mask.bfloat16(), 0.5).total.dtype == torch.float32


def test_min_snr_weight_by_hand():
    alphas = torch.tensor([0.99, 0.5, 0.1])
    weights = min_snr_weight(alphas, torch.tensor([0, 1, 2]), gamma=5.0)
    torch.testing.assert_close(weights, torch.tensor([5 / 99, 1, 1]))


def test_sample_weight_scales_each_sample():
    noise, predicted = torch.zeros(2, 1, 1, 1), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    mask = torch.zeros(2, 1, 1, 1)
    weight = torch.tensor([1.0, 0.0])
    assert hand_loss(noise, predicted, mask, mask, 0.5, weight).ldm.item() == pytest.approx(0.5)
    assert masked_l2(noise, predicted, mask, weight).item() == pytest.approx(0.5)

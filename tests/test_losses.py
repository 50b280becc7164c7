import pytest
import torch

from h2d.losses import hand_loss, min_snr_weight, noise_error, weighted_mean


def test_hand_loss_by_hand():
    noise, predicted = torch.zeros(1, 4, 1, 1), torch.tensor([1.0, 2, 0, 1]).view(1, 4, 1, 1)
    mask, mask_pred = torch.tensor([[1.0, 0.0]]).view(1, 1, 1, 2), torch.tensor([[0.5, 2.0]]).view(1, 1, 1, 2)
    ldm = noise_error(noise, predicted).mean()
    total, mask_term = hand_loss(ldm, mask, mask_pred, mask_weight=0.5)
    assert ldm.item() == pytest.approx(6 / 4)
    assert mask_term.item() == pytest.approx((0.25 + 4) / 2)
    assert total.item() == pytest.approx(1.5 + 0.5 * 2.125)


def test_masked_l2_by_hand():
    noise = torch.zeros(1, 2, 1, 3)
    predicted = torch.tensor([[1.0, 2, 100], [3, 0, 100]]).view(1, 2, 1, 3)
    mask = torch.tensor([0.0, 0, 1]).view(1, 1, 1, 3)
    assert noise_error(noise, predicted, mask).tolist() == pytest.approx([(1 + 4 + 9 + 0) / (2 * 2)])


def test_masked_l2_has_no_gradient_inside_the_hand():
    predicted = torch.randn(2, 4, 4, 4, requires_grad=True)
    mask = torch.zeros(2, 1, 4, 4)
    mask[..., :2] = 1
    noise_error(torch.randn(2, 4, 4, 4), predicted, mask).mean().backward()
    assert (predicted.grad[..., :2] == 0).all()
    assert (predicted.grad[..., 2:] != 0).any()


def test_large_hands_do_not_count_less():
    """The same error outside gives the same loss however much of each image of a batch is hand."""
    noise, predicted = torch.zeros(2, 4, 8, 8), torch.full((2, 4, 8, 8), 0.5)
    masks = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    masks[0, ..., 0, 0], masks[1, ..., 0, 0] = 1, 0
    assert noise_error(noise, predicted, masks).tolist() == pytest.approx([0.25, 0.25])


def test_masked_l2_of_nothing_to_paint_is_zero():
    predicted = torch.randn(1, 4, 2, 2, requires_grad=True)
    loss = noise_error(torch.randn(1, 4, 2, 2), predicted, torch.ones(1, 1, 2, 2)).mean()
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(predicted.grad).all()


def test_a_batch_is_the_mean_of_its_parts():
    noise, predicted, mask = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8), (torch.rand(4, 1, 8, 8) > 0.5).float()
    parts = [noise_error(noise[i : i + 2], predicted[i : i + 2], mask[i : i + 2]).mean() for i in (0, 2)]
    torch.testing.assert_close(noise_error(noise, predicted, mask).mean(), torch.stack(parts).mean())


def test_losses_are_float32_for_half_precision_predictions():
    noise = torch.randn(2, 4, 4, 4)
    mask = torch.zeros(2, 1, 4, 4)
    assert noise_error(noise, noise.bfloat16(), mask).dtype == torch.float32
    assert noise_error(noise, noise.bfloat16()).dtype == torch.float32
    assert hand_loss(torch.zeros(()), mask, mask.bfloat16(), 0.5)[0].dtype == torch.float32


def test_min_snr_weight_by_hand():
    alphas = torch.tensor([0.99, 0.5, 0.1])
    weights = min_snr_weight(alphas, torch.tensor([0, 1, 2]), gamma=5.0, prediction_type="epsilon")
    torch.testing.assert_close(weights, torch.tensor([5 / 99, 1, 1]))
    weights = min_snr_weight(alphas, torch.tensor([0, 1, 2]), gamma=5.0, prediction_type="v_prediction")
    torch.testing.assert_close(weights, torch.tensor([5 / 100, 1 / 2, 0.1]))


def test_sample_weight_scales_each_sample():
    errors = torch.tensor([1.0, 9.0])
    assert weighted_mean(errors, torch.tensor([1.0, 0.0])).item() == 0.5
    assert weighted_mean(errors, None).item() == 5

"""The training objectives: Eq. 8-9 of stage I and the masked L2 of stage II (Section III-C)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class HandLoss(NamedTuple):
    """Eq. 8 and its two terms, scalars."""

    total: Tensor
    ldm: Tensor
    mask: Tensor


def hand_loss(
    noise: Tensor,
    noise_pred: Tensor,
    mask: Tensor,
    mask_pred: Tensor,
    mask_weight: float,
    sample_weight: Tensor | None = None,
) -> HandLoss:
    """Eq. 8: ``L = L_LDM + lambda * mean((M - m)^2)`` with Eq. 9's ``L_LDM``, both as means over all elements.

    Args:
        noise: the noise that was added, ``(B, 4, h, w)``.
        noise_pred: the predicted noise.
        mask: ground truth ``(B, 1, S, S)`` in {0, 1}.
        mask_pred: prediction of the mask head, not clamped.
        mask_weight: lambda, 0.5 in the paper.
        sample_weight: ``(B,)`` weights of Eq. 9 per sample (:func:`min_snr_weight`); None weighs all alike.
    """
    squares = (noise.float() - noise_pred.float()).square()
    if sample_weight is not None:
        squares = squares * sample_weight.view(-1, 1, 1, 1)
    ldm = squares.mean()
    mask_term = F.mse_loss(mask_pred.float(), mask.float())
    return HandLoss(ldm + mask_weight * mask_term, ldm, mask_term)


def masked_l2(noise: Tensor, noise_pred: Tensor, mask_latent: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Squared error of the noise outside the hand, the mean over the pixels that are to be painted (Section III-C).

    Divided by the number of those pixels and not of all, or images with large hands would count less.

    Args:
        noise: ``(B, C, h, w)``.
        noise_pred: the same shape.
        mask_latent: ``(B, 1, h, w)``, 1 = hand, which does not count.
        sample_weight: ``(B,)`` weights per sample; None weighs all alike.

    Returns:
        A scalar; 0 when the masks leave nothing to paint.
    """
    outside = 1 - mask_latent.float()
    squares = outside * (noise.float() - noise_pred.float()).square()
    if sample_weight is not None:
        squares = squares * sample_weight.view(-1, 1, 1, 1)
    return squares.sum() / (outside.sum() * noise.shape[1]).clamp(min=1e-6)


def min_snr_weight(alphas_cumprod: Tensor, timesteps: Tensor, gamma: float) -> Tensor:
    """Min-SNR weights ``(B,)`` of a noise-predicting model: ``min(SNR, gamma) / SNR`` (arXiv 2303.09556).

    Args:
        alphas_cumprod: ``(T,)`` of the noise scheduler.
        timesteps: ``(B,)``.
        gamma: where the ratio is cut, 5 in that paper.
    """
    alpha = alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alpha / (1 - alpha)
    return snr.clamp(max=gamma) / snr

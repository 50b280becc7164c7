"""The training objectives: Eq. 8-9 of stage I and the masked L2 of stage II (Section III-C).

Every one is a mean over samples, so the gradient does not depend on how a global batch is cut into pieces.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Losses(NamedTuple):
    """What a batch gives: the loss to minimise, its parts, and the noise error of each sample with its noise level.

    Attributes:
        loss: scalar.
        parts: scalars by name.
        timesteps: ``(B,)`` in [0, T), None for a task without noise.
        errors: ``(B,)`` unweighted mean squared errors of what is predicted, None likewise.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    timesteps: Tensor | None = None
    errors: Tensor | None = None


def noise_error(target: Tensor, predicted: Tensor, keep: Tensor | None = None) -> Tensor:
    """Eq. 9 of each sample: the mean squared error of the predicted noise, ``(B,)``.

    With ``keep`` it is the masked L2 of Section III-C: the mean over the pixels that are to be painted. Dividing by
    their number, image by image, keeps images with large hands from counting less.

    Args:
        target: the noise that was added, ``(B, C, h, w)``; its velocity where the base predicts that.
        predicted: what the network made of it.
        keep: hand mask of the latents ``(B, 1, h, w)``, 1 = hand, which does not count. A sample that it leaves nothing
            of has the error 0.
    """
    squares = (target.float() - predicted.float()).square()
    if keep is None:
        return squares.mean(dim=(1, 2, 3))
    outside = 1 - keep.float()
    return (outside * squares).sum(dim=(1, 2, 3)) / (outside.sum(dim=(1, 2, 3)) * target.shape[1]).clamp(min=1e-6)


def weighted_mean(errors: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of the samples' errors ``(B,)``, each times its weight ``(B,)``; None weighs all alike."""
    return errors.mean() if weight is None else (errors * weight).mean()


def hand_loss(ldm: Tensor, mask: Tensor, mask_pred: Tensor, mask_weight: float) -> tuple[Tensor, Tensor]:
    """Eq. 8: ``L = L_LDM + lambda * mean((M - m)^2)``; returns L and the mean, its second term without lambda.

    Args:
        ldm: L_LDM, scalar.
        mask: ground truth ``(B, 1, S, S)`` in {0, 1}.
        mask_pred: prediction of the mask head, not clamped.
        mask_weight: lambda, 0.5 in the paper.
    """
    mask_term = F.mse_loss(mask_pred.float(), mask.float())
    return ldm + mask_weight * mask_term, mask_term


def min_snr_weight(alphas_cumprod: Tensor, timesteps: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR weights ``(B,)``: ``min(SNR, gamma)`` over SNR for noise, over SNR + 1 for velocity (arXiv 2303.09556).

    Args:
        alphas_cumprod: ``(T,)`` of the noise scheduler.
        timesteps: ``(B,)``.
        gamma: where the ratio is cut, 5 in that paper.
        prediction_type: of the noise scheduler, "epsilon" or "v_prediction".
    """
    alpha = alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alpha / (1 - alpha)
    return snr.clamp(max=gamma) / (snr + 1 if prediction_type == "v_prediction" else snr)

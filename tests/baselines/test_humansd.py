from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from h2d.baselines.skeletons import draw_humansd

from .conftest import SIZE


@torch.no_grad()
def by_hand(parts: Any, pose: np.ndarray, positive: torch.Tensor, negative: torch.Tensor, noise: torch.Tensor) -> Any:
    """HumanSD's sampling as its authors' code does it: DDIM of eta 0, three of 1000 steps, guidance 9."""
    alphas = torch.tensor(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2), dtype=torch.float64)
    picture = torch.from_numpy(draw_humansd(pose, SIZE)).permute(2, 0, 1)[None] / 127.5 - 1
    skeleton = parts.vae.encode(picture).latent_dist.mean * 0.18215
    x = noise
    for t, before in ((667, 334), (334, 1), (1, None)):
        seen = torch.cat([x.float(), skeleton], dim=1)
        without, with_text = (parts.unet(seen, t, text).sample for text in (negative, positive))
        noise = without + 9 * (with_text - without)
        clean = (x - (1 - alphas[t]) ** 0.5 * noise) / alphas[t] ** 0.5
        level = alphas[before] if before is not None else torch.tensor(1.0)
        x = level**0.5 * clean + (1 - level) ** 0.5 * noise
    return x.float()


def test_humansd_samples_as_its_authors_do(quick, poses):
    pipeline = quick("humansd").pipeline
    generator = torch.Generator().manual_seed(0)
    positive, negative = torch.randn(2, 1, 77, 32, generator=generator)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    picture = torch.from_numpy(draw_humansd(poses[0], SIZE)).permute(2, 0, 1)[None] / 255
    arguments = {"prompt_embeds": positive, "negative_prompt_embeds": negative, "latents": noise}
    options = {"height": SIZE, "width": SIZE, "generator": [generator], "num_inference_steps": 3}
    found = pipeline(picture, **arguments, **options).images
    expected = by_hand(pipeline, poses[0], positive, negative, noise)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_skeleton_of_another_size_is_refused(quick):
    nothing = torch.zeros(1, 77, 32)
    with pytest.raises(ValueError, match="image must be of 64 x 64 pixels"):
        quick("humansd").pipeline(
            torch.zeros(1, 3, 32, 32),
            prompt_embeds=nothing,
            negative_prompt_embeds=nothing,
            height=SIZE,
            width=SIZE,
            latents=torch.zeros(1, 4, 8, 8),
            generator=[],
        )

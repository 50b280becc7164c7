"""What both stages share: text, noise, guidance and THE denoising loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor

from h2d.networks.frozen import FrozenParts

Generators: TypeAlias = torch.Generator | list[torch.Generator] | None
Callback: TypeAlias = Callable[[DiffusionPipeline, int, int, dict[str, Any]], dict[str, Any] | None]
"""Called as ``callback(pipeline, step, timestep, {"latents": latents})``; may return a dict with other latents."""
Predict: TypeAlias = Callable[[Tensor, Tensor], Tensor]
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class SamplingPipeline(DiffusionPipeline):
    """Base of the pipelines; a subclass registers vae, text_encoder, tokenizer, scheduler and its own networks."""

    @property
    def parts(self) -> FrozenParts:
        """VAE, text encoder and tokenizer of the pipeline."""
        return FrozenParts(self.vae, self.text_encoder, self.tokenizer)

    def embed(self, prompts: list[str], negative_prompt: str | list[str] | None, guidance_scale: float) -> Tensor:
        """Text embeddings ``(B, L, D)``, or ``(2B, L, D)`` with the unconditional ones first when guidance is on."""
        if guidance_scale <= 1:
            return self.parts.encode_text(prompts)
        return self.parts.encode_text([*one_for_each("negative_prompt", negative_prompt or "", len(prompts)), *prompts])

    def denoise(
        self,
        noise: Tensor,
        predict: Predict,
        num_inference_steps: int,
        generators: list[torch.Generator],
        after_step: Callable[[int, Tensor], Tensor] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """From noise to clean latents with the pipeline's scheduler (Eq. 6 for DDIM).

        Args:
            noise: standard normal ``(B, 4, h, w)``.
            predict: scaled latents and timestep to the (guided) noise prediction.
            num_inference_steps: number of scheduler steps.
            generators: one for each sample, for schedulers that add noise.
            after_step: step index and latents to the latents that go on.
            callback: see :data:`Callback`.
        """
        scheduler = self.scheduler
        scheduler.set_timesteps(num_inference_steps, device=noise.device)
        randomness = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
        latents = noise * scheduler.init_noise_sigma
        for step, timestep in enumerate(self.progress_bar(scheduler.timesteps)):
            prediction = predict(scheduler.scale_model_input(latents, timestep), timestep)
            latents = scheduler.step(prediction, timestep, latents, **randomness).prev_sample
            if after_step is not None:
                latents = after_step(step, latents)
            if callback is not None:
                latents = (callback(self, step, int(timestep), {"latents": latents}) or {}).get("latents", latents)
        return latents

    def convert(self, image: Tensor, output_type: str) -> Any:
        """Images ``(B, 3, H, W)`` in [-1, 1] as a list of PIL images, a numpy array or a tensor in [0, 1]."""
        return VaeImageProcessor(vae_scale_factor=self.parts.factor).postprocess(image, output_type=output_type)


def guide(prediction: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance of ``(2B, ...)``, unconditional half first; a scale of 1 or less has no such half."""
    if guidance_scale <= 1:
        return prediction
    unconditional, conditional = prediction.chunk(2)
    return unconditional + guidance_scale * (conditional - unconditional)


def for_guidance(tensor: Tensor, guidance_scale: float) -> Tensor:
    """The same input for the unconditional and the conditional branch, when there are two."""
    return torch.cat([tensor, tensor]) if guidance_scale > 1 else tensor


# --- randomness: an image depends on its own generator and on nothing else of the batch -----------------------------
def spawn(generator: torch.Generator | None) -> torch.Generator:
    """A new CPU generator, seeded by one draw; None draws from torch's global one."""
    device = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (1,), generator=generator, device=device))
    return torch.Generator().manual_seed(seed)


def spawn_each(generator: Generators, count: int) -> list[torch.Generator]:
    """A generator for each sample; one generator for all seeds them in order, so sample k is alike at any batch size.

    Raises:
        ValueError: for a list of another length.
    """
    if not isinstance(generator, list):
        return [spawn(generator) for _ in range(count)]
    if len(generator) != count:
        raise ValueError(f"generator must be one or a list of {count}, got a list of {len(generator)}")
    return [spawn(one) for one in generator]


def draw_noise(shape: tuple[int, ...], generators: list[torch.Generator], device: torch.device) -> Tensor:
    """Standard normal float32 ``(B, *shape)``, drawn on the CPU so that every device starts from the same."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)


# --- arguments ------------------------------------------------------------------------------------------------------
def one_for_each(name: str, value: str | list[str], count: int) -> list[str]:
    """A text for each of ``count`` samples.

    Raises:
        ValueError: for a list of another length.
    """
    if isinstance(value, str):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} must be one text or a list of {count}, got {len(value)}")
    return list(value)


def check_shape(name: str, tensor: Tensor, form: tuple[int | str, ...]) -> None:
    """Compare a tensor's shape with a form such as ``("B", 3, "S", "S")``: equal letters stand for equal sizes.

    Raises:
        ValueError: naming the argument, the accepted form and the shape seen.
    """
    sizes: dict[str, int] = {}
    seen = tuple(tensor.shape)
    fits = len(seen) == len(form) and all(
        size == (want if isinstance(want, int) else sizes.setdefault(want, size))
        for size, want in zip(seen, form, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must be a tensor ({', '.join(map(str, form))}), got {seen}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not among ``choices`` with a ValueError."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")

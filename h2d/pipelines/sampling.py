"""What the pipelines share: text, noise, guidance, THE denoising loop, and folders that are loaded strictly."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor, nn

from h2d.networks.frozen import FrozenParts
from h2d.pipelines.checks import text_warnings
from h2d.pipelines.checksums import write_checksums
from h2d.pipelines.inputs import check_shape, one_for_each
from h2d.pipelines.loading import load_strictly, locate
from h2d.pipelines.noise import spawn

logger = logging.getLogger(__name__)

Callback: TypeAlias = Callable[[DiffusionPipeline, int, int, dict[str, Any]], dict[str, Any] | None]
"""Called as ``callback(pipeline, step, timestep, {"latents": latents})``; may return a dict with other latents."""
Predict: TypeAlias = Callable[[int, Tensor, Tensor], Tensor]
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class SamplingPipeline(DiffusionPipeline):
    """Base of the pipelines; a subclass registers vae, text_encoder, tokenizer, scheduler and its own networks."""

    _callback_tensor_inputs = ("latents",)

    def __init__(self) -> None:
        super().__init__()
        self._interrupt = False
        self._outer: SamplingPipeline | None = None
        self._said: set[str] = set()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Any:
        """Load a folder or a hub id, as diffusers does but strictly.

        Args:
            pretrained_model_name_or_path: what ``save_pretrained`` or ``h2d export`` wrote.
            **options: those of diffusers: ``torch_dtype`` (float32 by default), ``variant``, ``revision``, ``token``,
                ``cache_dir``, ``local_files_only``, and components by name to take in place of the folder's own.

        Raises:
            CheckpointError: a tensor is missing, unknown, of another shape or not finite, a weight file is not the one
                that was saved, or the folder is of another pipeline.
            SetupError: a hub id cannot be fetched.
        """
        folder = cls.find_folder(pretrained_model_name_or_path, options)
        return load_strictly(super().from_pretrained, folder, inspect.signature(cls).parameters, options)

    @classmethod
    def find_folder(cls, name: str | os.PathLike[str], options: dict[str, Any] | None = None) -> Path:
        """The folder that holds a pipeline of this class, fetched when ``name`` is a hub id.

        Args:
            name: folder or hub id.
            options: of ``from_pretrained``; those of the hub are used up.

        Raises:
            CheckpointError: there is no such folder, or it is of another pipeline.
            SetupError: a hub id cannot be fetched.
        """
        return locate(cls.__name__, name, {} if options is None else options)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """As diffusers does, and with a checksum of every weight file, which ``from_pretrained`` compares."""
        super().save_pretrained(save_directory, **options)
        write_checksums(Path(save_directory))

    @property
    def parts(self) -> FrozenParts:
        """VAE, text encoder and tokenizer of the pipeline."""
        return FrozenParts(self.vae, self.text_encoder, self.tokenizer)

    def to_channels_last(self) -> None:
        """Put the weights into the order in memory that convolutions are faster with."""
        for network in self.components.values():
            if isinstance(network, nn.Module):
                nn.Module.to(network, memory_format=torch.channels_last)

    @property
    def interrupt(self) -> bool:
        """Whether a callback, or another thread, has set ``_interrupt`` to stop the sampling."""
        return self._interrupt or (self._outer is not None and self._outer.interrupt)

    def encode_prompt(
        self,
        prompt: str | list[str] | None,
        negative_prompt: str | list[str] | None,
        count: int,
        *,
        guidance_scale: float,
        num_images_per_prompt: int = 1,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embeddings ``(count x num_images_per_prompt, L, D)`` of the prompts and, with guidance, the negative ones.

        Raises:
            ValueError: neither or both of text and embeddings are given, or for another number of samples.
        """
        positive = repeat(self._encode("prompt", prompt, prompt_embeds, count), num_images_per_prompt)
        if guidance_scale <= 1:
            return positive, None
        if negative_prompt is None and negative_prompt_embeds is None:
            negative_prompt = ""
        negative = self._encode("negative_prompt", negative_prompt, negative_prompt_embeds, count)
        return positive, repeat(negative, num_images_per_prompt)

    def _encode(self, name: str, texts: str | list[str] | None, embeds: Tensor | None, count: int) -> Tensor:
        if (texts is None) == (embeds is None):
            raise ValueError(f"{name} or {name}_embeds must be given, and not both")
        if embeds is not None:
            check_shape(f"{name}_embeds", embeds, (count, "L", "D"))
            return embeds.to(self._execution_device)
        lines = one_for_each(name, texts, count)  # type: ignore[arg-type]  # one of the two is given
        self.warn_once(text_warnings(lines, self.tokenizer))
        return self.parts.encode_text(lines).to(self._execution_device)

    def denoise(
        self,
        noise: Tensor,
        predict: Predict,
        num_inference_steps: int,
        generators: list[torch.Generator],
        *,
        eta: float = 0.0,
        after_step: Callable[[int, Tensor], Tensor] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """From noise to clean latents with the pipeline's scheduler (Eq. 6 for DDIM).

        Args:
            noise: standard normal ``(B, 4, h, w)``.
            predict: step index, scaled latents and timestep to the (guided) noise prediction.
            num_inference_steps: number of scheduler steps.
            generators: one for each sample, for schedulers that add noise.
            eta: of DDIM; other schedulers have none.
            after_step: step index and latents to the latents that go on.
            callback: see :data:`Callback`.
        """
        scheduler = self.scheduler
        scheduler.set_timesteps(num_inference_steps, device=noise.device)
        _make_exact(scheduler, generators)
        accepted = inspect.signature(scheduler.step).parameters
        options = {name: value for name, value in (("generator", generators), ("eta", eta)) if name in accepted}
        latents = noise * scheduler.init_noise_sigma
        for step, timestep in enumerate(self.progress_bar(scheduler.timesteps)):
            if self.interrupt:
                break
            prediction = predict(step, scheduler.scale_model_input(latents, timestep), timestep)
            latents = scheduler.step(prediction, timestep, latents, **options).prev_sample
            if after_step is not None:
                latents = after_step(step, latents)
            if callback is not None:
                latents = (callback(self, step, int(timestep), {"latents": latents}) or {}).get("latents", latents)
        return latents

    def convert(self, image: Tensor, output_type: str) -> Any:
        """Images ``(B, 3, H, W)`` in [-1, 1] as a list of PIL images, a numpy array or a tensor in [0, 1]."""
        return VaeImageProcessor(vae_scale_factor=self.parts.factor).postprocess(image, output_type=output_type)

    def warn_once(self, lines: Iterable[str]) -> None:
        """Log each line once, or an evaluation would say it thousands of times."""
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                logger.warning(line)


def _make_exact(scheduler: Any, generators: list[torch.Generator]) -> None:
    """Mend two things about diffusers' schedulers after ``set_timesteps``."""
    if hasattr(scheduler, "set_begin_index"):
        # add_noise then goes by the step, not by the timestep, of which rounding makes two alike with Karras' sigmas.
        scheduler.set_begin_index(0)
    if hasattr(scheduler, "noise_sampler_seed"):
        # DPMSolverSDE takes no generators, and would draw its seed from torch's global one.
        scheduler.noise_sampler_seed = [spawn(generator).initial_seed() for generator in generators]


def guide(prediction: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance of ``(2B, ...)``, unconditional half first; a scale of 1 or less has no such half."""
    if guidance_scale <= 1:
        return prediction
    unconditional, conditional = prediction.chunk(2)
    return unconditional + guidance_scale * (conditional - unconditional)


def for_guidance(tensor: Tensor, guidance_scale: float) -> Tensor:
    """The same input for the unconditional and the conditional branch, when there are two."""
    return torch.cat([tensor, tensor]) if guidance_scale > 1 else tensor


def join_text(positive: Tensor, negative: Tensor | None) -> Tensor:
    """Text embeddings of both branches ``(2B, L, D)``, unconditional first; of the one, without guidance."""
    return positive if negative is None else torch.cat([negative, positive])


def repeat(value: Any, times: int) -> Any:
    """A tensor ``(B, ...)``, or a list, with each entry ``times`` times in a row; None and single texts as they are."""
    if value is None or isinstance(value, str) or times == 1:
        return value
    if isinstance(value, Tensor):
        return value.repeat_interleave(times, dim=0)
    return [entry for entry in value for _ in range(times)]


def number_of_prompts(prompt: str | Sequence[str] | None, embeds: Tensor | None) -> int:
    """How many samples a prompt, or its embeddings, asks for."""
    if prompt is not None:
        return 1 if isinstance(prompt, str) else len(prompt)
    return 1 if embeds is None else len(embeds)

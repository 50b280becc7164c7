"""The networks of a task without their weights: what is counted and estimated before anything is loaded.

Call :func:`outline` inside a ``FakeTensorMode``, where tensors have shapes and no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from h2d.errors import ConfigError
from h2d.experiment import Experiment
from h2d.networks import sd15
from h2d.networks.base import locate_unet, resolve_base
from h2d.networks.controlnet import HINT_CHANNELS, SKELETON_CHANNELS, adapt_controlnet, load_controlnet
from h2d.networks.family import CONFIGS, check_family
from h2d.networks.hand_start import check_hand_unet
from h2d.networks.hand_unet import CONDITION_CHANNELS, HandUNet
from h2d.networks.hub import find_file, read_config
from h2d.networks.scratch import SIZES, new_vae

WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors", "model.safetensors")


@dataclass(frozen=True)
class Outline:
    """Networks of a task, random or without memory.

    Args:
        trained: what the optimiser moves.
        frozen: what only runs.
        forward: the part of a training step that keeps activations, for one sample.
        encode: what frozen networks make of the sample before it; nothing where that is part of ``forward``.
        missing: models whose weights are not on this machine; Stable Diffusion 1.5's configurations stand for those
            that are not here either.
    """

    trained: tuple[nn.Module, ...]
    frozen: tuple[nn.Module, ...]
    forward: Callable[[], Any]
    encode: Callable[[], Any] = tuple
    missing: tuple[str, ...] = ()


def outline(experiment: Experiment) -> Outline:
    """The networks that ``h2d train`` would train and hold; the hub is not asked.

    Raises:
        ConfigError: the task trains nothing.
        SetupError: the base's folder is missing or incomplete.
        CheckpointError: the base is of another family.
    """
    tasks = {"hand": _hand, "outpaint": _outpaint, "autoencoder": _autoencoder, "text_to_image": _text_to_image}
    if experiment.task not in tasks:
        raise ConfigError(f"task {experiment.task} trains nothing", "`h2d evaluate` is the command for it")
    return tasks[experiment.task](experiment)


def _hand(experiment: Experiment) -> Outline:
    model, base = experiment.model, _Base(experiment.model.base)
    unet = HandUNet.from_unet(
        base.unet(model.unet),
        factor=base.factor,
        init=model.conv_in_init,
        attach=model.mask_attach,
        layers=model.mask_layers,
    )
    if model.hand_unet is not None:
        base.check_hand_unet(model.hand_unet, unet)
    latents, text = _inputs(experiment, base.factor, unet.unet.config["cross_attention_dim"])
    condition = torch.zeros(1, CONDITION_CHANNELS, *latents.shape[-2:])
    forward, encode = (lambda: unet(latents, _TIME, text, condition)), base.encoding(experiment.image_size, pictures=1)
    return Outline((unet,), base.frozen, forward, encode, tuple(base.missing))


def _outpaint(experiment: Experiment) -> Outline:
    model, base = experiment.model, _Base(experiment.model.base)
    unet = base.unet(model.unet).requires_grad_(False)
    controlnet = base.controlnet(model.controlnet, unet, model.mask_hint)
    latents, text = _inputs(experiment, base.factor, unet.config["cross_attention_dim"])
    channels = HINT_CHANNELS if model.mask_hint else SKELETON_CHANNELS
    hint = torch.zeros(1, channels, experiment.image_size, experiment.image_size)

    def forward() -> Any:
        down, mid = controlnet(latents, _TIME, text, hint, return_dict=False)
        return unet(
            latents, _TIME, text, down_block_additional_residuals=down, mid_block_additional_residual=mid
        ).sample

    encode = base.encoding(experiment.image_size, pictures=2)  # the image and the canvas
    return Outline((controlnet,), (*base.frozen, unet), forward, encode, tuple(base.missing))


def _autoencoder(experiment: Experiment) -> Outline:
    vae = new_vae(SIZES[experiment.model.scratch])
    side = experiment.data.patch or experiment.image_size
    image = torch.zeros(1, 3, side, side)
    return Outline((vae,), (), lambda: vae.decode(vae.encode(image).latent_dist.mode()).sample)


def _text_to_image(experiment: Experiment) -> Outline:
    base = _Base(experiment.model.base)
    unet, text_encoder = base.unet(experiment.model.unet), base.text_encoder.requires_grad_(True)
    latents, _ = _inputs(experiment, base.factor, unet.config["cross_attention_dim"])
    tokens = torch.zeros(1, sd15.TEXT_TOKENS, dtype=torch.long)

    def forward() -> Any:
        return unet(latents, _TIME, text_encoder(tokens).last_hidden_state).sample

    encode = base.encoding(experiment.image_size, pictures=1, texts=0)
    return Outline((unet, text_encoder), base.frozen[:1], forward, encode, tuple(base.missing))


_TIME = 500
"""Any time step: all cost the same."""


def _inputs(experiment: Experiment, factor: int, text_width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents and text embeddings of one sample."""
    side = experiment.image_size // factor
    return torch.zeros(1, 4, side, side), torch.zeros(1, sd15.TEXT_TOKENS, text_width)


class _Base:
    """Networks from the configurations of a base, those of Stable Diffusion 1.5 where it is not on this machine."""

    def __init__(self, name: str) -> None:
        self.source = resolve_base(name)
        self.missing: list[str] = []
        files = [find_file(self.source, f"{part}/{file}") for part, file in CONFIGS.items()]
        if Path(self.source).is_dir() or all(files):
            check_family(self.source)
        if not all(_weights_here(self.source, part) for part in ("unet", "vae", "text_encoder")):
            self.missing.append(name)
        text = CLIPTextConfig.from_dict(_config(self.source, "text_encoder", sd15.TEXT_ENCODER))
        self.vae = AutoencoderKL.from_config(_config(self.source, "vae", sd15.VAE)).requires_grad_(False)
        self.text_encoder = CLIPTextModel(text).requires_grad_(False)
        self.frozen: tuple[nn.Module, ...] = (self.vae, self.text_encoder)

    @property
    def factor(self) -> int:
        """Image pixels per latent cell and side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    def encoding(self, size: int, pictures: int, texts: int = 1) -> Callable[[], Any]:
        """A function that encodes so many pictures and captions of one sample."""
        images, tokens = torch.zeros(pictures, 3, size, size), torch.zeros(texts, sd15.TEXT_TOKENS, dtype=torch.long)

        def encode() -> Any:
            return self.vae.encode(images), self.text_encoder(tokens) if texts else None

        return encode

    def unet(self, other: str | None) -> UNet2DConditionModel:
        """The base's UNet, or the other one."""
        source, part = self.source, "unet"
        if other is not None and not Path(other).expanduser().is_file():
            source, part = locate_unet(other)
            if not _weights_here(source, part):
                self.missing.append(other)
        return UNet2DConditionModel.from_config(_config(source, part, sd15.UNET))

    def check_hand_unet(self, source: str, new: HandUNet) -> None:
        """Whether a trained hand UNet is built like the new one, as far as its configuration is here."""
        if not _weights_here(source, ""):
            self.missing.append(source)
        if config := _config(source, "", {}):
            check_hand_unet(source, config, new)

    def controlnet(self, source: str | None, unet: UNet2DConditionModel, mask_hint: bool) -> ControlNetModel:
        """The ControlNet as training starts with it."""
        if source is None:
            return load_controlnet(None, unet, mask_hint, self.factor)
        if not _weights_here(source, ""):
            self.missing.append(source)
        controlnet = ControlNetModel.from_config(_config(source, "", sd15.CONTROLNET))
        return adapt_controlnet(controlnet, unet, mask_hint, self.factor, source)


def _config(source: str, part: str, otherwise: dict[str, Any]) -> dict[str, Any]:
    file = find_file(source, f"{part}/config.json".lstrip("/"))
    return otherwise if file is None else read_config(file)


def _weights_here(source: str, part: str) -> bool:
    if Path(source).is_dir():
        return any(Path(source, part).glob("*.safetensors"))
    return any(find_file(source, f"{part}/{file}".lstrip("/")) for file in WEIGHT_FILES)

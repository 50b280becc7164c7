"""Arguments of the pipelines: each refused with a ValueError that names it, the accepted form and what was given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import get_args

from torch import Tensor

from h2d.pipelines.blending import MAX_RADIUS
from h2d.rendering import Wrist


def one_for_each(name: str, value: str | list[str], count: int) -> list[str]:
    """A text for each of ``count`` samples.

    Raises:
        ValueError: for a list of another length.
    """
    if isinstance(value, str):
        return [value] * count
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{name} must be one text or a list of {count}, got {value!r}")
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


def check_count(name: str, value: int, least: int) -> None:
    """Refuse anything but a whole number of at least ``least`` with a ValueError."""
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_number(name: str, value: float, least: float = -math.inf, most: float = math.inf) -> None:
    """Refuse anything but a finite number between ``least`` and ``most`` with a ValueError."""
    if not isinstance(value, Real) or not math.isfinite(value) or not least <= value <= most:
        bounds = f" between {least:g} and {most:g}" if math.isfinite(least + most) else ""
        bounds = bounds or (f" of at least {least:g}" if math.isfinite(least) else "")
        raise ValueError(f"{name} must be a finite number{bounds}, got {value!r}")


def check_span(start: float, end: float) -> None:
    """Refuse a share of the steps that is not ``0 <= start < end <= 1`` with a ValueError."""
    check_number("control_guidance_start", start)
    check_number("control_guidance_end", end)
    if not 0 <= start < end <= 1:
        raise ValueError(
            f"control_guidance_start and control_guidance_end must be 0 <= start < end <= 1, got {start} and {end}"
        )


def check_painting(
    *,
    num_inference_steps: int,
    unblended_last_steps: int,
    start_radius_px: float,
    guidance_scale: float,
    controlnet_conditioning_scale: float,
    eta: float,
    control_guidance_start: float,
    control_guidance_end: float,
    num_images_per_prompt: int,
) -> None:
    """Refuse a number of stage II that is out of its range with a ValueError."""
    check_count("num_inference_steps", num_inference_steps, 1)
    check_count("unblended_last_steps", unblended_last_steps, 0)
    check_number("start_radius_px", start_radius_px, 0, MAX_RADIUS)
    check_number("guidance_scale", guidance_scale, 0)
    check_number("controlnet_conditioning_scale", controlnet_conditioning_scale)
    check_number("eta", eta, 0, 1)
    check_span(control_guidance_start, control_guidance_end)
    check_count("num_images_per_prompt", num_images_per_prompt, 1)


def check_crops(hand_size: int, sigma_px: float, margin: float, wrist: str, factor: int) -> None:
    """Refuse a setting of stage I's crops that is out of its range with a ValueError."""
    check_size("hand_size", hand_size, factor)
    check_number("sigma_px", sigma_px, 0.1, hand_size)
    check_number("margin", margin, 1, 100)
    check_choice("wrist", wrist, get_args(Wrist))


def check_size(name: str, value: int, factor: int) -> None:
    """Refuse a size in pixels that is not a whole number of latent cells with a ValueError."""
    if not isinstance(value, Integral) or value < factor or value % factor:
        raise ValueError(f"{name} must be a positive multiple of {factor}, got {value!r}")


def check_tensor_inputs(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a name in ``callback_on_step_end_tensor_inputs`` that a pipeline does not have with a ValueError."""
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"callback_on_step_end_tensor_inputs must be among {list(known)}, got {unknown}")

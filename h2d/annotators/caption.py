"""Captions of photographs: a template from what is known about a picture, or LLaVA-1.5 (Section IV-A)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from h2d.errors import SetupError

INSTRUCTION = (
    "Describe the person in the image, what they are wearing and doing, and the overall visual style of the image."
    " Answer in two or three sentences."
)
"""The paper does not give its instruction; its captions describe exactly this."""
CLIP_MEAN_RGB = (122, 116, 104)
MAX_NEW_TOKENS = 128


class TemplateCaptioner:
    """One sentence from attributes; says nothing that is not known."""

    made_by = "template-1"

    def describe(self, attributes: Mapping[str, Any], hands: Sequence[str]) -> str:
        """A caption.

        Args:
            attributes: what is known: ``attributes`` (sex, skin, hair, beard, expression, top, sleeve, background),
                ``gestures`` by side, or ``gesture``. Any part may be missing.
            hands: the visible hands, a subset of ``right`` and ``left``.
        """
        looks = dict(attributes.get("attributes") or {})
        expression = looks.get("expression", "neutral")
        parts = [_person(looks), _clothes(looks), expression if expression != "neutral" else ""]
        parts += [_gestures(attributes, hands, looks.get("sex"))]
        parts += [f"{looks['background']} background" if looks.get("background") else ""]
        parts = [part for part in parts if part]
        return ", ".join(parts) if looks else "a photo of " + " ".join(parts)


class LlavaCaptioner:
    """LLaVA-1.5 through transformers, several pictures at once, greedy.

    Args:
        model: a folder or a hub id of a LLaVA checkpoint with safetensors weights, e.g. llava-hf/llava-1.5-7b-hf.
        device: ``auto`` takes CUDA when there is one.

    Raises:
        SetupError: there is no such model, or it is not a LLaVA.
    """

    def __init__(self, model: str, device: str = "auto", instruction: str = INSTRUCTION) -> None:
        import torch
        from transformers import AutoProcessor, LlavaForConditionalGeneration

        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.prompt = f"USER: <image>\n{instruction} ASSISTANT:"
        dtype = torch.float16 if self.device.startswith("cuda") else torch.float32
        self.made_by = f"{Path(model).name} {str(dtype).removeprefix('torch.')}: {instruction}"
        local = Path(model).is_dir()
        try:
            self._processor = AutoProcessor.from_pretrained(model, local_files_only=local)
            self._model: Any = LlavaForConditionalGeneration.from_pretrained(
                model, dtype=dtype, local_files_only=local, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SetupError(f"cannot load LLaVA from {model}: {reason}", "llava=PATH names a local folder") from error
        self._model.to(self.device).eval()
        self._processor.tokenizer.padding_side = "left"

    def describe(self, images: Sequence[np.ndarray]) -> list[str]:
        """One caption for each uint8 ``(H, W, 3)`` picture. A picture's caption does not depend on its neighbours."""
        import torch

        inputs = self._processor(
            images=[pad_square(image) for image in images],
            text=[self.prompt] * len(images),
            padding=True,
            return_tensors="pt",
        ).to(self.device, self._model.dtype)
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=MAX_NEW_TOKENS,
                pad_token_id=self._processor.tokenizer.pad_token_id,
            )
        answers = tokens[:, inputs["input_ids"].shape[1] :]
        return [" ".join(text.split()) for text in self._processor.batch_decode(answers, skip_special_tokens=True)]


def pad_square(image: np.ndarray) -> np.ndarray:
    """Grow ``(H, W, 3)`` to a square around its centre with CLIP's mean colour.

    LLaVA-1.5 was trained on padded pictures, but the processor of the converted checkpoints crops the centre: a
    portrait photograph would lose its hands or its face.
    """
    height, width = image.shape[:2]
    side = max(height, width)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = CLIP_MEAN_RGB
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def _person(looks: Mapping[str, str]) -> str:
    features = [looks.get("hair", "")] if looks.get("hair") != "bald" else []
    features += [looks["beard"]] if looks.get("beard", "none") != "none" else []
    features += [f"{looks['skin']} skin"] if looks.get("skin") else []
    features = [_article(part) if part == "beard" else part for part in features if part]
    noun = _article(("bald " if looks.get("hair") == "bald" else "") + looks.get("sex", "person"))
    return f"{noun} with {_and(features)}" if features else noun


def _clothes(looks: Mapping[str, str]) -> str:
    if not looks.get("top"):
        return ""
    sleeve = looks.get("sleeve", "")
    ending = {"": "", "sleeveless": " without sleeves"}.get(sleeve, f" with {sleeve} sleeves")
    return f"wearing {_article(looks['top'])}{ending}"


def _gestures(attributes: Mapping[str, Any], hands: Sequence[str], sex: str | None) -> str:
    whose = {"woman": "her", "man": "his"}.get(sex or "", "their")
    by_side = attributes.get("gestures") or {}
    shown = [(side, by_side[side]) for side in hands if by_side.get(side)]
    if shown:
        return "showing " + _and([f"the {_words(gesture)} gesture with {whose} {side} hand" for side, gesture in shown])
    if attributes.get("gesture"):
        return f"showing the {_words(attributes['gesture'])} gesture"
    return f"showing {whose} {hands[0]} hand" if len(hands) == 1 else "showing both hands"


def _words(gesture: str) -> str:
    words = gesture.replace("_", " ")
    return f"inverted {words.removesuffix(' inverted')}" if words.endswith(" inverted") else words


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"

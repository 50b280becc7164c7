"""Captions by LLaVA-1.5 (Section IV-A)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from h2d.annotators.device import Batches, find_device, number_format
from h2d.errors import SetupError

INSTRUCTION = (
    "Describe the person in the image, what they are wearing and doing, and the overall visual style of the image."
    " Answer in two or three sentences."
)
"""The paper does not give its instruction; its captions describe exactly this."""
PROMPT = f"USER: <image>\n{INSTRUCTION} ASSISTANT:"
CLIP_MEAN_RGB = (122, 116, 104)
MAX_NEW_TOKENS = 128
SMALLER = "llava_bits=4 needs about 5 GB instead of 14"


class LlavaCaptioner:
    """LLaVA-1.5 through transformers, several pictures at once, greedy: bfloat16 on CUDA, float32 elsewhere.

    Args:
        model: a folder or a hub id of a LLaVA checkpoint with safetensors weights, e.g. llava-hf/llava-1.5-7b-hf.
        device: ``auto`` takes CUDA when there is one.
        bits: of each weight; 8 and 4 need the package bitsandbytes, and captions may differ a little.
        batch: pictures that are described at once.

    Raises:
        SetupError: there is no such model, it is not a LLaVA or lacks weights, or it does not fit on the device.
    """

    def __init__(self, model: str, device: str = "auto", bits: int = 16, batch: int = 8) -> None:
        self._device = find_device(device)
        self._format = number_format(self._device)
        self._processor, self._model = _load(model, self._device, self._format, bits)
        self._processor.tokenizer.padding_side = "left"
        self._batches = Batches(batch, SMALLER)
        numbers = str(self._format).removeprefix("torch.") + (f", weights of {bits} bits" if bits < 16 else "")
        self.made_by = f"{Path(model).name} {numbers}: {INSTRUCTION}"

    def describe(self, images: Sequence[np.ndarray]) -> list[str]:
        """One caption for each uint8 ``(H, W, 3)`` picture. A picture's caption does not depend on its neighbours.

        Raises:
            SetupError: the device has not memory enough for a single picture.
        """
        return self._batches.run(self._describe, images)

    def _describe(self, images: Sequence[np.ndarray]) -> list[str]:
        import torch

        inputs = self._processor(
            images=[pad_square(image) for image in images],
            text=[PROMPT] * len(images),
            padding=True,
            return_tensors="pt",
        ).to(self._device, self._format)
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


def _load(model: str, device: Any, number_format: Any, bits: int) -> tuple[Any, Any]:
    """Processor and network, on the device."""
    import torch
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    local = Path(model).expanduser().is_dir()
    source = str(Path(model).expanduser()) if local else model
    options: dict[str, Any] = {"dtype": number_format, "local_files_only": local, "use_safetensors": True}
    if bits < 16:
        options |= {"quantization_config": _quantization(bits, number_format), "device_map": {"": device}}
    try:
        processor = AutoProcessor.from_pretrained(source, local_files_only=local)
        network, report = LlavaForConditionalGeneration.from_pretrained(source, output_loading_info=True, **options)
        if bits == 16:
            network.to(device)
    except torch.OutOfMemoryError as error:
        raise SetupError(f"{model} does not fit on {device}", SMALLER) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        hint = "`h2d doctor --fetch llava` downloads it; llava=PATH names a local folder"
        raise SetupError(f"cannot load LLaVA from {model}: {reason}", hint) from error
    if report["missing_keys"]:  # they would be random numbers
        first = sorted(report["missing_keys"])[0]
        raise SetupError(f"{model} lacks {len(report['missing_keys'])} weights of LLaVA, the first is {first}")
    return processor, network.eval()


def _quantization(bits: int, number_format: Any) -> Any:
    """How transformers is to store the weights: NF4 or LLM.int8.

    Raises:
        SetupError: bitsandbytes is not installed.
    """
    if find_spec("bitsandbytes") is None:
        hint = "pip install bitsandbytes, or llava_bits=16"
        raise SetupError(f"llava_bits={bits} needs the package bitsandbytes, which is missing", hint)
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=number_format)

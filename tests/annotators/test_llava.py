from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from h2d.annotators import llava
from h2d.annotators.llava import INSTRUCTION, LlavaCaptioner, pad_square
from h2d.errors import SetupError


@pytest.fixture(scope="module")
def captioner(tiny_llava: Path) -> LlavaCaptioner:
    return LlavaCaptioner(str(tiny_llava), "cpu", batch=3)


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((40, 90), (120, 30), (64, 64), (90, 90))]


def test_llava_describes_a_batch_as_it_describes_one(captioner: LlavaCaptioner, images: list[np.ndarray]) -> None:
    together = captioner.describe(images)
    assert len(together) == 4
    assert all(text and "\n" not in text for text in together)
    assert together == [captioner.describe([image])[0] for image in images]


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(
    tiny_llava: Path, images: list[np.ndarray], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = LlavaCaptioner(str(tiny_llava), "cpu", batch=4)
    expected = small.describe(images)
    generate, tried = small._model.generate, []

    def out_of_memory(**inputs: Any) -> Any:
        tried.append(len(inputs["input_ids"]))
        if tried[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(**inputs)

    monkeypatch.setattr(small._model, "generate", out_of_memory)
    assert small.describe(images) == expected
    assert tried == [4, 2, 1, 1, 1, 1]
    assert "batches of 2" in capsys.readouterr().err
    assert small.describe(images[:2]) == expected[:2]
    assert tried[6:] == [1, 1], "it does not try what failed before"


def test_llava_says_what_it_is(captioner: LlavaCaptioner, tiny_llava: Path) -> None:
    assert captioner.made_by == f"{tiny_llava.name} float32: {INSTRUCTION}"


def test_half_precision(tiny_llava: Path, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llava, "number_format", lambda device: torch.bfloat16)
    half = LlavaCaptioner(str(tiny_llava), "cpu")
    assert {weight.dtype for weight in half._model.parameters()} == {torch.bfloat16}
    assert len(half.describe(images[:2])) == 2
    assert " bfloat16: " in half.made_by


def test_fewer_bits_need_a_package(tiny_llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llava, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="llava_bits=4 needs the package bitsandbytes") as caught:
        LlavaCaptioner(str(tiny_llava), "cpu", bits=4)
    assert "llava_bits=16" in caught.value.hint


@pytest.mark.parametrize("bits", [4, 8])
def test_fewer_bits_reach_the_library(bits: int, tiny_llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlavaForConditionalGeneration

    load, asked = LlavaForConditionalGeneration.from_pretrained, []

    def record(*args: Any, quantization_config: Any, device_map: Any, **options: Any) -> Any:
        asked.append((quantization_config, device_map))
        return load(*args, **options)

    monkeypatch.setattr(llava, "find_spec", lambda name: True)
    monkeypatch.setattr(LlavaForConditionalGeneration, "from_pretrained", record)
    captioner = LlavaCaptioner(str(tiny_llava), "cpu", bits=bits)
    ((config, places),) = asked
    assert (config.load_in_4bit, config.load_in_8bit) == (bits == 4, bits == 8)
    assert places == {"": torch.device("cpu")}
    assert f", weights of {bits} bits: " in captioner.made_by


def test_nothing_of_a_portrait_is_cropped_away() -> None:
    image = np.full((60, 20, 3), 7, np.uint8)
    square = pad_square(image)
    assert square.shape == (60, 60, 3)
    assert (square == 7).all(axis=2).sum() == 60 * 20
    assert square[0, 0].tolist() == [122, 116, 104]


def test_a_missing_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot load LLaVA"):
        LlavaCaptioner(str(tmp_path), "cpu")


def test_damaged_weights_are_one_clear_error(tiny_llava: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_llava, tmp_path / "model"))
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:5000])
    with pytest.raises(SetupError, match="cannot load LLaVA"):
        LlavaCaptioner(str(model), "cpu")
    weights.write_bytes(whole)
    tensors = load_file(weights)
    lost = next(name for name in tensors if "q_proj" in name)
    save_file({name: value for name, value in tensors.items() if name != lost}, weights, {"format": "pt"})
    with pytest.raises(SetupError, match=r"lacks 1 weights of LLaVA, the first is .*q_proj"):
        LlavaCaptioner(str(model), "cpu")


def test_a_model_that_does_not_fit_says_what_does(tiny_llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlavaForConditionalGeneration

    def out_of_memory(*args: Any, **options: Any) -> Sequence[Any]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(LlavaForConditionalGeneration, "from_pretrained", out_of_memory)
    with pytest.raises(SetupError, match="does not fit on cpu") as caught:
        LlavaCaptioner(str(tiny_llava), "cpu")
    assert "llava_bits=4" in caught.value.hint

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from h2d.errors import CheckpointError, SetupError
from h2d.files import sha256_of
from h2d.metrics.clip import CLIP_MODEL, ClipSim, load_clip
from h2d.weights import HubModel

CAPTIONS = ["a person waves", "a hand", "word " * 90]


def noise(side: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, side, side), dtype=np.uint8))


IMAGES = noise(40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP with some thousand random weights, saved as the real one is."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    from h2d.networks.base import load_tokenizer, resolve_base

    torch.manual_seed(0)
    tokenizer = load_tokenizer(resolve_base("tiny"))
    small = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 2}
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPConfig(
        text_config=small | {"vocab_size": len(tokenizer), "max_position_embeddings": 77} | ends,
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    path: Path = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(path)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(path)
    return path


def by_hand(folder: Path, image: torch.Tensor, caption: str) -> float:
    """The cosine from the two towers: pixels and tokens prepared here, one picture at a time."""
    from PIL import Image
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder).eval()
    small = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((32, 32), Image.Resampling.BICUBIC)
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = torch.from_numpy((np.asarray(small) / 255 - mean) / std).permute(2, 0, 1)[None].float()
    ids = CLIPTokenizer.from_pretrained(folder)(caption)["input_ids"]
    ids = torch.tensor([[*ids[:76], ids[-1]]] if len(ids) > 77 else [ids])
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)[0].double().numpy()
        read = model.text_projection(model.text_model(input_ids=ids).pooler_output)[0].double().numpy()
    return float(seen @ read / np.sqrt((seen**2).sum() * (read**2).sum()))


@pytest.mark.parametrize(("side", "tolerance"), [(32, 1e-6), (40, 2e-3)])  # resizers round pixels differently
def test_cosines_by_hand(folder: Path, side: int, tolerance: float) -> None:
    expected = [by_hand(folder, image, caption) for image, caption in zip(noise(side), CAPTIONS, strict=True)]
    cosines, cut = load_clip(folder).cosines(noise(side), CAPTIONS)
    assert cosines.tolist() == pytest.approx(expected, abs=tolerance)
    assert np.ptp(expected) > 0.02, "the comparison means something"
    assert cut == 1


def test_a_caption_weighs_the_same_in_every_batch(folder: Path) -> None:
    clip = load_clip(folder)
    cosines, _ = clip.cosines(IMAGES, CAPTIONS)
    metric = ClipSim(clip)
    metric.update(IMAGES[:2], CAPTIONS[:2])
    metric.update(IMAGES[2:], CAPTIONS[2:])
    metric.update(IMAGES[:0], [])
    results = metric.compute()
    assert float(results["clipsim"]) == pytest.approx(100 * float(cosines.mean()), abs=1e-4)
    assert int(results["captions_cut"]) == 1


def test_exactly_77_tokens_are_not_cut(folder: Path) -> None:
    clip = load_clip(folder)
    tokenizer = clip._processor.tokenizer
    each = len(tokenizer("hand hand")["input_ids"]) - len(tokenizer("hand")["input_ids"])
    assert each == 1, "a word of the vocabulary"
    assert clip.cosines(IMAGES[:2], ["hand " * 75, "hand " * 76])[1] == 1


def test_no_image_is_nan_and_wrong_ones_are_refused(folder: Path) -> None:
    clip = load_clip(folder)
    metric = ClipSim(clip)
    metric.update(IMAGES[:0], [])
    assert torch.isnan(metric.compute()["clipsim"])
    for images, captions in ((IMAGES.float(), CAPTIONS), (IMAGES, CAPTIONS[:2]), (IMAGES[0], CAPTIONS)):
        with pytest.raises(ValueError, match="images must be"):
            clip.cosines(images, captions)


def test_the_official_file_is_no_safetensors(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(HubModel, "find", lambda model: tmp_path if model.repository == CLIP_MODEL else None)
    clip = load_clip()
    assert clip.name == "openai/clip-vit-base-patch16"
    assert clip.sha256 == sha256_of(tmp_path / "pytorch_model.bin")
    assert torch.equal(clip.cosines(IMAGES, CAPTIONS)[0], load_clip(folder).cosines(IMAGES, CAPTIONS)[0])


def test_the_checksum_is_that_of_the_file_that_is_read(folder: Path, tmp_path: Path) -> None:
    from transformers import CLIPModel

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"is not read")
    assert load_clip(tmp_path).sha256 == sha256_of(folder / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    CLIPModel.from_pretrained(folder).save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert load_clip(tmp_path).sha256 == "", "no single file has its weights"


class Payload:
    """What a malicious checkpoint holds: unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


def test_without_weights_there_is_one_clear_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SetupError, match="not on this machine"):
        load_clip(tmp_path / "nothing")
    with pytest.raises(SetupError, match="cannot load CLIP"):
        load_clip(tmp_path)
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({"weights": Payload(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SetupError, match="cannot load CLIP"):
        load_clip(tmp_path)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "pytorch_model.bin").unlink()
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"visual_projection\.weight"):
        load_clip(tmp_path)
    monkeypatch.setattr(HubModel, "find", lambda model: None)
    with pytest.raises(SetupError, match="openai/clip-vit-base-patch16 is not on this machine") as absent:
        load_clip()
    assert "--fetch clip" in absent.value.hint

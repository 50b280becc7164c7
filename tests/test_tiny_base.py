from pathlib import Path

import pytest
import torch

from h2d.checkpoints import AtomicCheckpointIO
from h2d.errors import CheckpointError
from h2d.networks import base, tiny
from h2d.tiny_base import assemble

CAPTIONS = ["a woman shows the peace gesture", "a close-up of a hand, a man in a green shirt"]


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Random weights in the form that the two trainings leave them."""
    monkeypatch.setattr("h2d.tiny_base._captions", lambda shards: iter(CAPTIONS))
    torch.manual_seed(0)
    text_encoder, unet = tiny.tiny_text_encoder(tiny.tiny_tokenizer(CAPTIONS)), tiny.tiny_unet()
    contents = {
        "autoencoder": {"vae.": tiny.tiny_vae()},
        "text_to_image": {"text_encoder.": text_encoder, "unet.": unet},
    }
    for task, parts in contents.items():
        weights = {prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()}
        weights |= {"latent_std": torch.tensor(2.0)} if task == "autoencoder" else {}
        content = {"state_dict": weights, "hyper_parameters": {"task": task}}
        AtomicCheckpointIO().save_checkpoint(content, tmp_path / f"{task}.ckpt")
    return tmp_path / "autoencoder.ckpt", tmp_path / "text_to_image.ckpt"


def test_what_is_assembled_loads_as_a_base(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    autoencoder, text_to_image = checkpoints
    assemble(tmp_path / "shards", autoencoder, text_to_image, tmp_path / "base")
    parts, unet = base.load_frozen(str(tmp_path / "base")), base.load_unet(str(tmp_path / "base"))
    assert parts.factor == 4
    assert parts.vae.config.scaling_factor == pytest.approx(0.5)  # one over the spread of the latents
    trained = torch.load(text_to_image, weights_only=True)["state_dict"]
    torch.testing.assert_close(unet.conv_in.weight, trained["unet.conv_in.weight"], rtol=1e-3, atol=1e-4)  # fp16
    assert parts.encode_text(["a zebra, 42"]).shape == (1, 77, tiny.TEXT_WIDTH)
    assert not list(tmp_path.glob(".*.tmp"))


def test_the_first_half_leaves_the_rest_random(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    assemble(tmp_path / "shards", checkpoints[0], None, tmp_path / "base")
    assert base.load_scheduler(str(tmp_path / "base")).config.beta_schedule == "scaled_linear"


def test_checkpoints_of_another_task_are_refused(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="of task text_to_image, not of autoencoder"):
        assemble(tmp_path / "shards", checkpoints[1], None, tmp_path / "base")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        assemble(tmp_path / "shards", tmp_path / "nowhere.ckpt", None, tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_the_shipped_base_is_whole_and_small() -> None:
    parts, unet = base.load_frozen("tiny"), base.load_unet("tiny")
    counts = [sum(p.numel() for p in part.parameters()) for part in (parts.vae, parts.text_encoder, unet)]
    assert sum(counts) < 6_000_000
    assert sum(file.stat().st_size for file in base.TINY_BASE.rglob("*")) <= 12_000_000
    image = torch.zeros(1, 3, tiny.IMAGE_SIZE, tiny.IMAGE_SIZE)
    grey = parts.decode(parts.encode_image(image, sample=False))
    assert grey.abs().mean() < 0.1  # it has learnt to reconstruct

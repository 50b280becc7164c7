from pathlib import Path

import pytest
import torch

from h2d.checkpoints import AtomicCheckpointIO
from h2d.errors import CheckpointError
from h2d.networks import base, scratch
from h2d.scratch_base import assemble


@pytest.fixture(params=scratch.SIZES)
def size(request: pytest.FixtureRequest) -> str:
    """The name of a size."""
    return str(request.param)


@pytest.fixture
def checkpoints(size: str, tmp_path: Path) -> tuple[Path, Path]:
    """Random weights in the form that the two trainings leave them."""
    torch.manual_seed(1)
    widths, tokenizer = scratch.SIZES[size], base.load_tokenizer(base.resolve_base("tiny"))
    contents = {
        "autoencoder": {"vae.": scratch.new_vae(widths)},
        "text_to_image": {
            "text_encoder.": scratch.new_text_encoder(tokenizer, widths),
            "unet.": scratch.new_unet(widths),
        },
    }
    for task, parts in contents.items():
        weights = {prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()}
        weights |= {"latent_std": torch.tensor(2.0)} if task == "autoencoder" else {}
        content = {"state_dict": weights, "hyper_parameters": {"task": task, "model": {"scratch": size}}}
        AtomicCheckpointIO().save_checkpoint(content, tmp_path / f"{task}.ckpt")
    return tmp_path / "autoencoder.ckpt", tmp_path / "text_to_image.ckpt"


def test_what_is_assembled_loads_as_a_base(size: str, checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    autoencoder, text_to_image = checkpoints
    assemble(autoencoder, text_to_image, tmp_path / "base")
    parts, unet = base.load_frozen(str(tmp_path / "base")), base.load_unet(str(tmp_path / "base"))
    widths = scratch.SIZES[size]
    assert (parts.factor, unet.config.sample_size) == (widths.factor, widths.image_size // widths.factor)
    assert parts.vae.config.scaling_factor == pytest.approx(0.5)  # one over the spread of the latents
    trained = torch.load(text_to_image, weights_only=True)["state_dict"]
    torch.testing.assert_close(unet.conv_in.weight, trained["unet.conv_in.weight"], rtol=1e-3, atol=1e-4)  # fp16
    assert parts.encode_text(["a zebra, 42"]).shape == (1, 77, widths.text)
    schedule = base.load_scheduler(str(tmp_path / "base"))
    for name, value in widths.schedule._asdict().items():
        assert schedule.config[name] == value
    assert not list(tmp_path.glob(".*.tmp"))


def test_the_first_half_leaves_the_rest_random_and_always_the_same(
    checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        torch.rand(3)
        assemble(checkpoints[0], None, tmp_path / name)
    files = [sorted((tmp_path / name).rglob("*.*")) for name in ("one", "two")]
    assert len(files[0]) == len(files[1]) > 6
    assert all(one.read_bytes() == two.read_bytes() for one, two in zip(*files, strict=True))
    assert base.load_scheduler(str(tmp_path / "one")).config.beta_schedule == "scaled_linear"


def test_checkpoints_of_another_task_are_refused(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="of task text_to_image, not of autoencoder"):
        assemble(checkpoints[1], None, tmp_path / "base")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        assemble(tmp_path / "nowhere.ckpt", None, tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_the_shipped_base_is_whole_and_small() -> None:
    parts, unet = base.load_frozen("tiny"), base.load_unet("tiny")
    counts = [sum(p.numel() for p in part.parameters()) for part in (parts.vae, parts.text_encoder, unet)]
    assert sum(counts) < 6_000_000
    assert sum(file.stat().st_size for file in base.TINY_BASE.rglob("*")) <= 12_000_000
    image = torch.zeros(1, 3, 128, 128)
    grey = parts.decode(parts.encode_image(image, sample=False))
    assert grey.abs().mean() < 0.1  # it has learnt to reconstruct


def test_noise_hides_the_mean_colour_from_the_shipped_model(tmp_path: Path) -> None:
    size = scratch.SIZES["tiny-model"]
    sampler = base.make_sampler(scratch.noise_schedule(size.schedule))
    sampler.set_timesteps(20)
    signal = float(sampler.alphas_cumprod[sampler.timesteps[0]].sqrt())
    of_noise = size.factor / size.image_size  # deviation of the mean of independent cells of deviation 1
    assert signal * 0.5 < 0.5 * of_noise, "people's mean colours have a deviation of about 0.5"

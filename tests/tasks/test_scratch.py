from dataclasses import replace
from typing import Any

import pytest
import torch

from h2d.networks.base import load_frozen, load_tokenizer, load_unet, resolve_base
from h2d.networks.outline import outline
from h2d.networks.scratch import HUE_GAIN, SIZES, new_text_encoder, new_vae, opponent_colours
from h2d.randomness import generators
from h2d.tasks.autoencoder import (
    COLOUR_SPREAD,
    HUE_WEIGHT,
    Autoencoder,
    latent_loss,
    random_parts,
    reconstruction_losses,
)
from h2d.tasks.text_to_image import TextToImage


def test_autoencoder_learns_and_measures_its_latents(experiment: Any, batch: dict[str, Any], descend: Any) -> None:
    torch.manual_seed(0)
    task = Autoencoder(experiment, new_vae(SIZES["tiny"]))
    losses = descend(task, batch)
    assert losses[-1] < 0.9 * losses[0]
    assert task.latent_std != 1
    assert "latent_std" in task.state_dict()


def test_a_picture_that_is_no_number_leaves_the_measured_spread_alone(experiment: Any, batch: dict[str, Any]) -> None:
    task = Autoencoder(experiment, new_vae(SIZES["tiny"]))
    task.losses({**batch, "image": batch["image"] * float("nan")}, generators(range(4)))
    assert task.latent_std == 1


def test_reconstruction_losses_by_hand() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(8, 4).expand(1, 3, 8, 8)  # 8 x 8 pixels, vertical stripes of grey
    pixels, edges, colours = reconstruction_losses(torch.zeros_like(stripes), stripes)
    assert pixels == 0.5
    assert edges == 1.0  # every horizontal difference is 1, every vertical one 0
    # the mean of the one 8 x 8 square, 0.5 in all three channels: brightness alone is wrong
    assert colours.item() == pytest.approx(HUE_WEIGHT[0] * 0.5 * 3**0.5 / 3)
    green = torch.zeros(1, 3, 8, 8)
    green[:, 1] = 0.5
    assert reconstruction_losses(torch.zeros_like(green), green)[2] > colours, "a wrong hue counts more"


def test_latents_that_are_their_cells_colours_cost_nothing() -> None:
    grey = torch.full((1, 3, 16, 16), 0.5)
    grey[:, :, :, 8:] = -0.5
    latents = torch.zeros(1, 4, 2, 2)
    latents[:, 0] = torch.tensor([1.0, -1.0]) * 0.5 * 3**0.5 / COLOUR_SPREAD[0]
    latents[:, 3] = 7  # the fourth is free
    assert latent_loss(grey, latents).item() == pytest.approx(0, abs=1e-6)
    latents[0, 2, 0, 0] = 0.5  # a hue where there is none: one of 12 cells and channels, Huber loss of 1/8
    assert latent_loss(grey, latents).item() == pytest.approx(0.5 * 0.5**2 / 12)


@pytest.mark.parametrize("size", SIZES)
def test_what_a_new_autoencoder_sees_reaches_its_last_level_whole(size: str) -> None:
    encoder = new_vae(SIZES[size]).encoder
    image = torch.rand(1, 3, 32, 32)
    first = last = encoder.conv_in(image)
    for block in encoder.down_blocks:
        last = block(last)
    mean = torch.nn.functional.avg_pool2d(first, first.shape[-1] // last.shape[-1])
    torch.testing.assert_close(last.norm(dim=1), mean.norm(dim=1))


def test_text_to_image_trains_unet_and_text_encoder(
    experiment: Any, parts: Any, batch: dict[str, Any], descend: Any
) -> None:
    torch.manual_seed(0)
    text_encoder = parts.frozen.text_encoder
    task = TextToImage(experiment, parts.unet, text_encoder.requires_grad_(True), parts.frozen, parts.scheduler)
    losses = descend(task, batch)
    assert losses[-1] < losses[0]
    assert {name.split(".")[0] for name, _ in task.named_parameters()} == {"unet", "text_encoder"}


def test_text_to_image_goes_on_from_the_base(experiment: Any) -> None:
    task, unet = TextToImage.from_base(experiment), load_unet(experiment.model.base)
    for name, weight in unet.state_dict().items():
        assert weight.equal(task.unet.state_dict()[name]), name
    frozen = load_frozen(experiment.model.base).text_encoder.state_dict()
    assert all(weight.equal(frozen[name]) for name, weight in task.text_encoder.state_dict().items())
    assert all(weight.requires_grad for weight in task.parameters())
    outlined = outline(replace(experiment, task="text_to_image", model=replace(experiment.model, scratch="tiny-model")))
    assert sum(p.numel() for part in outlined.trained for p in part.parameters()) == sum(
        p.numel() for p in task.parameters()
    ), "what is estimated is what is trained, whatever the size of a new autoencoder"


def test_min_snr_lowers_the_weight_of_clean_steps(set_loss: Any, parts: Any, batch: dict[str, Any]) -> None:
    text_encoder = parts.frozen.text_encoder
    task = TextToImage(set_loss(min_snr_gamma=0.01), parts.unet, text_encoder, parts.frozen, parts.scheduler)
    losses = task.losses(batch, generators(range(4)))
    assert losses.loss < losses.parts["ldm"]


def test_random_parts_are_of_the_picture_and_of_each_sample_alone() -> None:
    images = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).view(2, 3, 16, 16)
    parts = random_parts(images, 8, generators([5, 6]))
    assert parts.shape == (2, 3, 8, 8)
    for part, image in zip(parts, images, strict=True):
        y, x = divmod(int(part[0, 0, 0] - image[0, 0, 0]), 16)
        assert part.equal(image[:, y : y + 8, x : x + 8])
    assert random_parts(images[1:], 8, generators([6])).equal(parts[1:])
    assert random_parts(images, 16, generators([5, 6])).equal(images)
    assert random_parts(images, None, ()) is images


def test_the_posterior_starts_narrow() -> None:
    torch.manual_seed(0)
    posterior = new_vae(SIZES["tiny"]).encode(torch.rand(2, 3, 32, 32) * 2 - 1).latent_dist
    assert posterior.std.max() < 0.2


def test_the_first_convolution_sees_hues_as_large_as_brightness() -> None:
    torch.manual_seed(0)
    first = new_vae(SIZES["tiny-model"]).encoder.conv_in.weight.detach()
    seen = torch.einsum("ocyx,dc->odyx", first, opponent_colours()).square().mean(dim=(0, 2, 3)).sqrt()
    assert seen[1] / seen[0] == pytest.approx(HUE_GAIN[1], rel=0.3)
    assert seen[2] / seen[0] == pytest.approx(HUE_GAIN[2], rel=0.3)


def test_captions_differ_before_the_training():
    tokenizer = load_tokenizer(resolve_base("tiny"))
    torch.manual_seed(0)
    encoder = new_text_encoder(tokenizer, SIZES["tiny-model"])
    captions = ["a woman with red hair, blue background", "a bald man with dark skin, white background"]
    words = tokenizer(captions, return_tensors="pt", padding=True)["input_ids"]
    states = encoder(words).last_hidden_state
    assert states.std(0).mean() > 0.4 * states.std(), "with words of 0.02 it is less than 0.3"

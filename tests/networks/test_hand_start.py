from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from h2d.errors import CheckpointError
from h2d.networks.hand_start import load_hand_unet
from h2d.networks.hand_unet import HandUNet

from ..small_networks import UNET


def small(**changed: Any) -> HandUNet:
    """A hand UNet with random weights."""
    unet = UNet2DConditionModel(**{**UNET, **{key: value for key, value in changed.items() if key in UNET}})
    return HandUNet.from_unet(unet, factor=8, layers=changed.get("layers", 4))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    small().save_pretrained(tmp_path / "hand_unet")
    return tmp_path / "hand_unet"


def test_weights_are_those_of_the_folder(trained: Path) -> None:
    torch.manual_seed(8)
    new = small()
    found, saved = load_hand_unet(str(trained), new).state_dict(), HandUNet.from_pretrained(trained).state_dict()
    assert all(torch.equal(found[name], saved[name]) for name in saved)
    assert not torch.equal(found["mask_head.0.weight"], new.state_dict()["mask_head.0.weight"])


def test_another_head_is_named_with_its_key(trained: Path) -> None:
    new = small(layers=3)
    with pytest.raises(CheckpointError, match=r"trained with model\.mask_layers=4, not 3"):
        load_hand_unet(str(trained), new)


def test_another_base_is_named_with_the_fact(trained: Path) -> None:
    new = small(block_out_channels=(32, 32))
    with pytest.raises(CheckpointError, match=r"another base: its block_out_channels is \[16, 32\], .* \[32, 32\]"):
        load_hand_unet(str(trained), new)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    UNet2DConditionModel(**UNET).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="cannot load HandUNet"):
        load_hand_unet(str(tmp_path), small())

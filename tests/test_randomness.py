import random

import numpy as np
import pytest
import torch

from h2d.randomness import picture_generator, preserved_rng


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def seed_all():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


def draw_and_fail():
    with preserved_rng():
        draw()
        raise RuntimeError


def test_global_states_survive_the_block_and_an_error_in_it():
    seed_all()
    expected = draw()
    seed_all()
    with pytest.raises(RuntimeError):
        draw_and_fail()
    assert draw() == expected


def test_a_picture_has_its_own_numbers():
    first = torch.randn(3, generator=picture_generator(0, 1))
    assert torch.equal(first, torch.randn(3, generator=picture_generator(0, 1)))
    assert not torch.equal(first, torch.randn(3, generator=picture_generator(0, 2)))
    assert not torch.equal(first, torch.randn(3, generator=picture_generator(1, 1)))

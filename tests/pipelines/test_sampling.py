import pytest
import torch

from h2d.pipelines.inputs import (
    check_count,
    check_number,
    check_shape,
    check_size,
    check_span,
    check_tensor_inputs,
    one_for_each,
)
from h2d.pipelines.noise import draw_noise, spawn_each
from h2d.pipelines.sampling import for_guidance, guide, repeat


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_generator_gives_sample_k_the_same_noise_at_any_batch_size():
    four = draw_noise((4, 8, 8), spawn_each(seeded(3), 4), torch.device("cpu"))
    two = draw_noise((4, 8, 8), spawn_each(seeded(3), 2), torch.device("cpu"))
    assert torch.equal(four[:2], two)
    assert len({noise.sum().item() for noise in four}) == 4


def test_a_list_gives_each_sample_its_own():
    together = draw_noise((4, 8, 8), spawn_each([seeded(5), seeded(6)], 2), torch.device("cpu"))
    alone = draw_noise((4, 8, 8), spawn_each([seeded(6)], 1), torch.device("cpu"))
    assert torch.equal(together[1:], alone)
    assert torch.equal(alone, draw_noise((4, 8, 8), spawn_each(seeded(6), 1), torch.device("cpu")))


def test_without_a_generator_the_global_one_decides():
    torch.manual_seed(0)
    first = draw_noise((2,), spawn_each(None, 1), torch.device("cpu"))
    again = draw_noise((2,), spawn_each(None, 1), torch.device("cpu"))
    torch.manual_seed(0)
    assert torch.equal(first, draw_noise((2,), spawn_each(None, 1), torch.device("cpu")))
    assert not torch.equal(first, again)


def test_guidance_by_hand():
    prediction = torch.tensor([1.0, 2.0])
    assert guide(prediction, 3.0).tolist() == [1 + 3 * (2 - 1)]
    assert guide(prediction, 1.0) is prediction
    assert for_guidance(torch.tensor([7.0]), 3.0).tolist() == [7, 7]
    assert for_guidance(torch.tensor([7.0]), 1.0).tolist() == [7]


def test_wrong_numbers_of_things_are_named():
    with pytest.raises(ValueError, match="generator must be one or a list of 3, got a list of 1"):
        spawn_each([seeded(0)], 3)
    with pytest.raises(ValueError, match="prompt must be one text or a list of 3, got 2"):
        one_for_each("prompt", ["a", "b"], 3)
    for wrong in (b"ab", ["a", None], 3):
        with pytest.raises(ValueError, match="prompt must be one text or a list of 2, got"):
            one_for_each("prompt", wrong, 2)
    assert one_for_each("prompt", "a", 2) == ["a", "a"]


def test_shapes_are_checked_by_letters():
    check_shape("x", torch.zeros(2, 3, 8, 8), ("B", 3, "S", "S"))
    for wrong in ((2, 3, 8), (2, 4, 8, 8), (2, 3, 8, 9)):
        with pytest.raises(ValueError, match=r"x must be a tensor \(B, 3, S, S\), got \(2,"):
            check_shape("x", torch.zeros(wrong), ("B", 3, "S", "S"))


def test_numbers_and_sizes_are_named():
    for wrong in (0, 2.5, None, "3"):
        with pytest.raises(ValueError, match=f"steps must be a whole number of at least 1, got {wrong!r}"):
            check_count("steps", wrong, 1)
    for wrong in (float("nan"), float("inf"), None, "7", -0.1, 1.1):
        with pytest.raises(ValueError, match=f"eta must be a finite number between 0 and 1, got {wrong!r}"):
            check_number("eta", wrong, 0, 1)
    with pytest.raises(ValueError, match="x must be a finite number of at least 0, got -1"):
        check_number("x", -1, 0)
    for wrong in (0, 60, -8, "64", 64.0):
        with pytest.raises(ValueError, match=f"height must be a positive multiple of 8, got {wrong!r}"):
            check_size("height", wrong, 8)
    for wrong in ((0.5, 0.5), (-0.1, 1), (0, 1.5), (0.8, 0.2)):
        with pytest.raises(ValueError, match="must be 0 <= start < end <= 1"):
            check_span(*wrong)
    with pytest.raises(ValueError, match=r"must be among \['latents'\], got \['noise'\]"):
        check_tensor_inputs(["latents", "noise"], ["latents"])


def test_each_entry_is_repeated_in_a_row():
    assert repeat(torch.tensor([1, 2]), 2).tolist() == [1, 1, 2, 2]
    assert repeat(["a", "b"], 2) == ["a", "a", "b", "b"]
    assert repeat("a", 2) == "a"
    assert repeat(None, 2) is None

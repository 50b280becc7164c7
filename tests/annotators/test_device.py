from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from h2d.annotators.device import Batches, find_device, number_format
from h2d.errors import SetupError


def test_batches_keep_the_order() -> None:
    sizes = []

    def double(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        return [2 * value for value in batch]

    assert Batches(3, "").run(double, list(range(8))) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert sizes == [3, 3, 2]
    assert Batches(3, "").run(double, []) == []


def test_a_batch_that_does_not_fit_is_halved_for_good(capsys: pytest.CaptureFixture[str]) -> None:
    tried = []

    def two_fit(batch: Sequence[int]) -> list[int]:
        tried.append(list(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return list(batch)

    batches = Batches(8, "")
    assert batches.run(two_fit, list(range(5))) == [0, 1, 2, 3, 4]
    assert tried == [[0, 1, 2, 3, 4], [0, 1], [2, 3], [4]]
    assert capsys.readouterr().err == "out of memory: going on with batches of 2\n"
    assert batches.run(two_fit, [5, 6, 7]) == [5, 6, 7]
    assert tried[4:] == [[5, 6], [7]]


def test_one_image_that_does_not_fit_stops_everything() -> None:
    def never(batch: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(SetupError, match="for one image") as caught:
        Batches(4, "buy more").run(never, [1, 2])
    assert caught.value.hint == "buy more"


def test_a_device_that_failed_stops_everything() -> None:
    def broken(batch: Sequence[int]) -> list[int]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be")

    with pytest.raises(
        SetupError, match=r"the device has failed: CUDA error: an illegal memory access was encountered$"
    ):
        Batches(4, "").run(broken, [1])


def test_other_errors_are_not_hidden() -> None:
    def bug(batch: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Batches(4, "").run(bug, [1])


def test_devices() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert number_format(torch.device("cpu")) == torch.float32
    assert number_format(torch.device("cuda", 1)) == torch.bfloat16
    with pytest.raises(SetupError, match="names no device"):
        find_device("gpu0")
    with pytest.raises(SetupError, match="device=cuda:99 is not there"):
        find_device("cuda:99")

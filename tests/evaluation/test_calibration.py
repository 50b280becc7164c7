from types import SimpleNamespace

import numpy as np
import pytest

from h2d.data.schema import Sample, encode_sample
from h2d.evaluation.calibration import ALTERATIONS, Copies
from h2d.images import encode_png

SIZE = 32


def sample(number: int) -> Sample:
    rng = np.random.default_rng(number)
    image = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    hands = np.zeros((SIZE, SIZE), np.uint8)
    hands[8:16, 8:16] = 1
    pose = np.concatenate([rng.uniform(4, 28, (133, 2)), np.full((133, 1), 2)], axis=1).astype(np.float32)
    return Sample(f"key{number}", image, hands, pose, f"person {number}", {})


SAMPLES = [sample(number) for number in range(5)]


class Split:
    """Stands in for the shards."""

    def __len__(self):
        return len(SAMPLES)

    def read(self, index):
        one = SAMPLES[index]
        meta = {"schema": 1, "key": one.key, "source": "synthetic", "split": "test", "size": [SIZE, SIZE]}
        raw = encode_sample(one.key, encode_png(one.image), "png", one.hands, one.pose, one.caption, meta)
        return {"__key__": one.key, **raw}


def images(name: str, batch: int = 5) -> list[np.ndarray]:
    copies = Copies(name, Split(), 0, SIZE)
    indexed = list(enumerate(SAMPLES))
    return [picture.image for first in range(0, 5, batch) for picture in copies.make(indexed[first : first + batch])]


@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_copy_depends_on_the_sample_only_and_is_of_the_kind_of_a_picture(name):
    together, alone = images(name), images(name, batch=1)
    for one, two in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, two)
        assert (one.shape, one.dtype) == ((SIZE, SIZE, 3), np.uint8)


def test_what_each_copy_changes():
    real = [one.image for one in SAMPLES]
    for made, image in zip(images("real"), real, strict=True):
        np.testing.assert_array_equal(made, image)
    for made, image in zip(images("shifted"), real, strict=True):
        np.testing.assert_array_equal(made[:, 3:], image[:, :-3])
    for number, made in enumerate(images("shuffled")):
        np.testing.assert_array_equal(made, real[(number + 2) % 5])
    for made, one in zip(images("without-hands"), SAMPLES, strict=True):
        inside = one.hands > 0
        np.testing.assert_array_equal(made[~inside], one.image[~inside])
        assert (made[inside] != one.image[inside]).any()
        np.testing.assert_array_equal(np.sort(made[inside], axis=0), np.sort(one.image[inside], axis=0))
    for made, image in zip(images("blurred"), real, strict=True):
        assert made.std() < image.std()


def test_the_protocol_names_the_copy():
    assert (
        Copies("blurred", SimpleNamespace(), 3, SIZE).protocol() | {"method": "blurred", "seed": 3}
        == Copies("blurred", SimpleNamespace(), 3, SIZE).protocol()
    )

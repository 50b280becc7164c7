import numpy as np
import pytest

from h2d.metrics.border import BorderContrast, border_contrast

SIDE = 128


@pytest.fixture
def hands() -> np.ndarray:
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[40:80, 30:90] = 1
    return labels


def test_by_hand(hands: np.ndarray) -> None:
    image = np.where(hands[..., None] > 0, 200, 100).astype(np.uint8).repeat(3, axis=2)
    # The band is one pixel wide on both sides. Pairs across the border differ by 100: 60 + 60 + 40 + 40 of them;
    # those in the band: within rows and columns of the ring between 58 x 38 inside and 62 x 42 outside.
    ring = np.zeros((SIDE, SIDE), bool)
    ring[39:81, 29:91] = True
    ring[41:79, 31:89] = False
    pairs = (ring[1:] & ring[:-1]).sum() + (ring[:, 1:] & ring[:, :-1]).sum()
    assert border_contrast(image, hands) == pytest.approx(100 * 200 / pairs)


def test_a_seam_raises_it_and_what_lies_elsewhere_does_not(hands: np.ndarray) -> None:
    smooth = np.tile(np.arange(SIDE, dtype=np.uint8)[:, None, None], (1, SIDE, 3))
    seam, elsewhere = smooth.copy(), smooth.copy()
    seam[40:80, 30] = 255
    elsewhere[:20] = 255
    assert border_contrast(seam, hands) > border_contrast(smooth, hands)  # type: ignore[operator]
    assert border_contrast(elsewhere, hands) == border_contrast(smooth, hands)


def test_images_without_hands_do_not_count(hands: np.ndarray) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    assert border_contrast(image, np.zeros_like(hands)) is None
    mean = BorderContrast()
    mean.add([image, image], [hands, np.zeros_like(hands)])
    assert float(mean.compute()) == pytest.approx(border_contrast(image, hands))

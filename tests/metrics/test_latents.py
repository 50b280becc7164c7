import numpy as np
import pytest
import torch
from scipy import linalg

from h2d.errors import SetupError
from h2d.metrics import latents
from h2d.metrics.image_suite import ImageNetworks, ImageSuite
from h2d.networks import base


@pytest.fixture(autouse=True)
def tiny_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "BASE", "tiny")


def pictures(seed: int, count: int = 6) -> torch.Tensor:
    """Smooth random colours, uint8 ``(count, 3, 96, 96)``."""
    small = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(small, (96, 96), mode="bicubic").clamp(0, 1) * 255).byte()


def test_features_are_moments_of_the_cells() -> None:
    features, parts = latents.load_latent_moments(), base.load_frozen("tiny")
    found = features(pictures(0))
    assert found.shape == (6, features.num_features) == (6, 128)
    large = torch.nn.functional.interpolate(pictures(0).float(), (128, 128), mode="bilinear", antialias=True)
    expected = parts.encode_image(large / 127.5 - 1, sample=False)
    cells = expected.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    wanted = torch.cat([cells.mean(-1), cells.std(-1, correction=0)], dim=1).flatten(1)
    torch.testing.assert_close(found, wanted.double(), rtol=1e-3, atol=1e-3)


def test_the_distance_is_frechets() -> None:
    features = latents.load_latent_moments()
    suite = ImageSuite(ImageNetworks(latents=features))
    real, made = pictures(1, 40), pictures(2, 40)
    rows = [list(images.permute(0, 2, 3, 1).numpy()) for images in (made, real)]
    suite.add(range(40), rows[0], rows[1], [""] * 40)
    values, reasons, facts = suite.compute()
    one, two = (features(images).numpy() for images in (made, real))
    covariances = np.cov(one.T), np.cov(two.T)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert values["fd_latents"] == pytest.approx(expected, rel=1e-2)
    assert "fid" not in values
    assert reasons["fid"]
    assert facts["fd_latents"]["n_real"] == 40
    assert len(facts["fd_latents"]["sha256"]) == 64


def test_without_the_shipped_model_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setitem(base.SHIPPED, "tiny", tmp_path / "absent")
    with pytest.raises(SetupError, match="no base in"):
        latents.load_latent_moments()
    networks = ImageNetworks.load(foreground="none")
    assert networks.latents is None
    assert "no base in" in ImageSuite(networks).compute().reasons["fd_latents"]

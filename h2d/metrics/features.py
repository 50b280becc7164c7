"""What FID and KID compare instead of pixels: 192 numbers for each image, from the first layers of Inception-v3.

The network and its weights are those of torch-fidelity, which torchmetrics uses, up to the second pooling; its own
code is not needed for these five layers. Images are resized as torchmetrics does, with antialiasing.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from h2d.errors import SetupError
from h2d.files import sha256_of
from h2d.networks.loading import check_weights
from h2d.weights import WEIGHTS, WeightFile, weight_file

INCEPTION_SIZE = 299
INCEPTION_NAME = "Inception-v3 2015-12-05, second pooling (192), images resized to 299 with antialiasing"
_REFETCH = "remove it, then `h2d doctor --fetch inception`"


class Inception(nn.Sequential):
    """Inception-v3 (TensorFlow, 2015-12-05) up to its second pooling, averaged over the image.

    ``num_features`` is what torchmetrics asks any feature network for.
    """

    num_features = 192

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                Conv2d_1a_3x3=_convolution(3, 32, 3, stride=2),
                Conv2d_2a_3x3=_convolution(32, 32, 3),
                Conv2d_2b_3x3=_convolution(32, 64, 3, padding=1),
                MaxPool_1=nn.MaxPool2d(3, stride=2),
                Conv2d_3b_1x1=_convolution(64, 80, 1),
                Conv2d_4a_3x3=_convolution(80, 192, 3),
                MaxPool_2=nn.MaxPool2d(3, stride=2),
            )
        )
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features float32 ``(B, 192)`` of uint8 images ``(B, 3, H, W)``."""
        side = (INCEPTION_SIZE, INCEPTION_SIZE)
        resized = functional.interpolate(images.float(), side, mode="bilinear", align_corners=False, antialias=True)
        return super().forward((resized - 128) / 128).mean(dim=(2, 3))


class Features:
    """A feature network on a device, kept out of the metrics that use it, so that their sums may lie elsewhere.

    Args:
        network: any module from uint8 images ``(B, 3, H, W)`` to ``(B, num_features)``, with that attribute.
        name: of the network, for the report.
        device: where it runs.
        sha256: of the file that its weights come from, for the report; "" where it is not known.
    """

    def __init__(self, network: nn.Module, name: str, device: torch.device | str = "cpu", sha256: str = "") -> None:
        self.name, self.sha256, self._device = name, sha256, device
        self.num_features = int(network.num_features)  # type: ignore[arg-type]
        self._network = network.to(device).eval()

    def __call__(self, images: Tensor) -> Tensor:
        """Features float64 ``(B, num_features)`` on the CPU of uint8 images ``(B, 3, H, W)``; B may be 0.

        Raises:
            ValueError: the images are of another type or shape.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be uint8 (B, 3, H, W), not {images.dtype} {tuple(images.shape)}")
        if not len(images):
            return torch.zeros(0, self.num_features, dtype=torch.float64)
        with torch.no_grad(), torch.autocast(torch.device(self._device).type, enabled=False):
            return self._network(images.to(self._device)).cpu().double()


def load_inception(device: torch.device | str = "cpu") -> Features:
    """Inception-v3 with the official weights, which are read as tensors only.

    Raises:
        SetupError: they are not on this machine, or not the published ones.
    """
    path = weight_file("inception")
    published = next(weights for weights in WEIGHTS if weights.name == "inception")
    assert isinstance(published, WeightFile)
    if sha256_of(path) != published.sha256:
        raise SetupError(f"{path} is not the published file: its SHA-256 differs", _REFETCH)
    network = Inception()
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        missing = network.load_state_dict(weights, strict=False).missing_keys
    except Exception as error:  # damaged files make torch raise those of zipfile, pickle and others
        raise SetupError(f"{path} holds no weights of Inception-v3: {type(error).__name__}", _REFETCH) from error
    check_weights(network, str(path), [name for name in missing if not name.endswith("num_batches_tracked")])
    return Features(network, INCEPTION_NAME, device, published.sha256)


def _convolution(channels: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, outputs, size, stride, padding, bias=False),
            bn=nn.BatchNorm2d(outputs, eps=0.001),
            relu=nn.ReLU(inplace=True),
        )
    )

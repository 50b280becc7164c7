"""CLIPSIM: how well generated images fit their captions (Table I).

The published values near 33 are those of the base models; HumanSD's code, which gave the metric its name, takes
CLIP ViT-B/16. torchmetrics 1.9 cannot use CLIP of transformers 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from h2d.errors import SetupError
from h2d.files import sha256_of
from h2d.networks.hub import first_line
from h2d.networks.loading import check_weights
from h2d.weights import WEIGHTS

CLIP_MODEL = "openai/clip-vit-base-patch16"
_HINT = "`h2d doctor --fetch clip` downloads it; it needs *.json, the vocabulary and the weights"


class Clip:
    """CLIP's two encoders on a device, in float32.

    Args:
        model: ``CLIPModel`` of transformers.
        processor: the image processor and tokenizer that belong to it.
        name: of the model, for the report.
        device: where it runs.
        sha256: of the file that its weights come from, for the report; "" where it is not known.
    """

    def __init__(
        self, model: Any, processor: Any, name: str, device: torch.device | str = "cpu", sha256: str = ""
    ) -> None:
        self.name, self.sha256, self._device = name, sha256, device
        self._model, self._processor = model.to(device).float().eval(), processor
        self.max_tokens = int(model.config.text_config.max_position_embeddings)

    def cosines(self, images: Tensor, captions: Sequence[str]) -> tuple[Tensor, int]:
        """How well images fit their captions.

        Args:
            images: uint8 ``(B, 3, H, W)``; B may be 0.
            captions: B of them; what is longer than ``max_tokens`` (77) is cut off.

        Returns:
            Cosines float64 ``(B,)`` in [-1, 1] on the CPU, and the number of captions that were cut.

        Raises:
            ValueError: the images are of another type or shape, or not as many as the captions.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or len(images) != len(captions):
            problem = f"not {images.dtype} {tuple(images.shape)} and {len(captions)}"
            raise ValueError(f"images must be uint8 (B, 3, H, W) with B captions, {problem}")
        if not len(images):
            return torch.zeros(0, dtype=torch.float64), 0
        pixels = self._processor.image_processor(
            list(images.cpu()), input_data_format="channels_first", return_tensors="pt"
        )
        tokens = self._processor.tokenizer(
            list(captions), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        with torch.no_grad(), torch.autocast(torch.device(self._device).type, enabled=False):
            # both embeddings of forward() have length one, in every release; get_image_features() changed its type
            output = self._model(**tokens.to(self._device), **pixels.to(self._device))
        return (output.image_embeds.double() * output.text_embeds.double()).sum(dim=1).cpu(), self._cut(captions)

    def _cut(self, captions: Sequence[str]) -> int:
        whole = self._processor.tokenizer(list(captions), verbose=False)["input_ids"]
        return sum(len(ids) > self.max_tokens for ids in whole)


class ClipSim(Metric):
    """100 times the mean cosine of images and captions; negative ones count as they are."""

    full_state_update = False
    higher_is_better = True
    total: Tensor
    count: Tensor
    cut: Tensor

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("cut", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Tensor, captions: Sequence[str]) -> None:
        """Add images; arguments and errors are those of :meth:`Clip.cosines`."""
        cosines, cut = self.clip.cosines(images, captions)
        self.total += 100 * cosines.sum().to(self.total)
        self.count += len(cosines)
        self.cut += cut

    def compute(self) -> dict[str, Tensor]:
        """``clipsim`` in [-100, 100], NaN without any image, and ``captions_cut``."""
        return {"clipsim": self.total / self.count, "captions_cut": self.cut}


def load_clip(folder: Path | None = None, device: torch.device | str = "cpu") -> Clip:
    """CLIP from a folder, or :data:`CLIP_MODEL` from the hub's cache; the network is never asked.

    Weights are read as tensors only, from safetensors where the folder has them.

    Raises:
        SetupError: it is not on this machine or not complete.
        CheckpointError: weights are missing or not finite.
    """
    from transformers import CLIPModel, CLIPProcessor
    from transformers.utils import SAFE_WEIGHTS_NAME, WEIGHTS_NAME

    place = next(weights for weights in WEIGHTS if weights.name == "clip").find() if folder is None else folder
    if place is None or not place.is_dir():
        raise SetupError(f"{CLIP_MODEL if place is None else place} is not on this machine", _HINT)
    options = {"local_files_only": True}
    safe = any(place.glob("*.safetensors"))
    try:
        processor = CLIPProcessor.from_pretrained(place, **options)
        model, report = CLIPModel.from_pretrained(place, use_safetensors=safe, output_loading_info=True, **options)
    except Exception as error:  # the library raises those of several others
        raise SetupError(f"cannot load CLIP from {place}: {first_line(error)}", _HINT) from error
    missing = [*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])]
    check_weights(model, str(place), missing)
    file = place / (SAFE_WEIGHTS_NAME if safe else WEIGHTS_NAME)
    checksum = sha256_of(file) if file.is_file() else ""  # a larger model is in several files
    return Clip(model, processor, CLIP_MODEL if folder is None else folder.name, device, checksum)

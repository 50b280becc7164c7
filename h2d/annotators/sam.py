"""Segment Anything (SAM 1), many pictures at once. The only place that loads it.

Prompts are decoded together that have as many points; to fill others up would change their masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from h2d.annotators.device import Batches, find_device, number_format
from h2d.annotators.prompts import Prompt
from h2d.errors import SetupError

SAM_MODELS = ("vit_h", "vit_l", "vit_b")


class Answer(NamedTuple):
    """Mask of the hand, boolean ``(h, w)`` over the prompt's place, and SAM's own estimate of its IoU."""

    mask: np.ndarray
    iou: float


class Sam:
    """SAM on a device: bfloat16 in the image encoder on CUDA, float32 elsewhere.

    Args:
        model: SAM's network, as ``load_sam`` returns it.
        name: its architecture, for ``made_by``.
        device: ``auto`` takes CUDA when there is one.
        batch: pictures that go through the image encoder at once.

    ``side`` is the length of the longer side of the pictures that it wants; ``several`` says whether it offers three
    masks for a prompt, or one.

    Raises:
        SetupError: there is no such device.
    """

    several = False

    def __init__(self, model: Any, name: str, device: str = "auto", batch: int = 8) -> None:
        self._device = find_device(device)
        self._format = number_format(self._device)
        self._model = model.to(self._device).eval()
        self.side = int(model.image_encoder.img_size)
        self._batches = Batches(batch, "sam_model=vit_b needs the least, device=cpu has more")
        self.made_by = f"sam-{name} {str(self._format).removeprefix('torch.')}"

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """One answer for each prompt; the other prompts make no difference to it.

        Raises:
            SetupError: the device has not memory enough for a single picture.
        """
        return self._batches.run(self._answer, prompts)

    def _answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        import torch

        with torch.inference_mode():
            pictures = [torch.as_tensor(prompt.picture, device=self._device).permute(2, 0, 1) for prompt in prompts]
            batch = torch.stack([self._model.preprocess(picture) for picture in pictures])
            with torch.autocast(self._device.type, self._format, enabled=self._format != torch.float32):
                seen = self._model.image_encoder(batch)
            found = self._decode(seen.float(), prompts)
            # moved at the end: until then the device need not wait for the processor
            return [Answer(mask.cpu().numpy(), float(iou)) for mask, iou in found]

    def _decode(self, embeddings: Any, prompts: Sequence[Prompt]) -> list[tuple[Any, Any]]:
        """Boolean mask ``(h, w)`` of each place and its estimate, still on the device.

        Args:
            embeddings: of the prompts' pictures, ``(B, C, g, g)``.
            prompts: B.
        """
        found: dict[int, tuple[Any, Any]] = {}
        for group in _alike(prompts):
            asked = [prompts[number] for number in group]
            masks, estimates = self._offers(embeddings[group], asked)
            found |= zip(group, map(self._choose, asked, masks, estimates), strict=True)
        return [found[number] for number in range(len(prompts))]

    def _choose(self, prompt: Prompt, masks: Any, estimates: Any) -> tuple[Any, Any]:
        """The answer to a prompt among the masks ``(N, h, w)`` that are offered, and its estimate of ``(N,)``."""
        return masks[0], estimates[0]

    def _offers(self, embeddings: Any, prompts: Sequence[Prompt]) -> tuple[list[Any], Any]:
        """Boolean masks ``(N, h, w)`` of each place and their estimates ``(B, N)``; N is three or one, see ``several``.

        Args:
            embeddings: of the prompts' pictures, ``(B, C, g, g)``.
            prompts: B, with the same number of points.
        """
        import torch

        sparse, dense = self._model.prompt_encoder(
            points=(self._stack([one.points for one in prompts]), self._stack([one.labels for one in prompts])),
            boxes=self._stack([one.box for one in prompts]),
            masks=None,
        )
        # the decoder answers many prompts about one picture; each of these has its own
        masks, estimates = torch.func.vmap(self._masks)(
            embeddings.unsqueeze(1), sparse.unsqueeze(1), dense.unsqueeze(1)
        )
        places = [
            self._model.postprocess_masks(mask, one.picture.shape[:2], one.size)[0] > self._model.mask_threshold
            for mask, one in zip(masks, prompts, strict=True)
        ]
        return places, estimates.squeeze(1)

    def _masks(self, embedding: Any, sparse: Any, dense: Any) -> tuple[Any, Any]:
        """Small masks ``(1, N, m, m)`` and estimates ``(1, N)`` for one prompt about one picture."""
        return self._model.mask_decoder(
            image_embeddings=embedding,
            image_pe=self._model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=self.several,
        )

    def _stack(self, arrays: Sequence[np.ndarray]) -> Any:
        import torch

        return torch.as_tensor(np.stack(arrays), dtype=torch.float32, device=self._device)


def _alike(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Numbers of the prompts that have as many points as each other."""
    groups: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault(len(prompt.points), []).append(number)
    return list(groups.values())


def sam_model(checkpoint: Path) -> str:
    """Architecture named in a checkpoint's file name.

    Raises:
        SetupError: it names none.
    """
    for model in SAM_MODELS:
        if model in checkpoint.name:
            return model
    raise SetupError(f"cannot tell SAM's architecture from the name of {checkpoint}", "add sam_model=vit_h|vit_l|vit_b")


def load_sam(checkpoint: Path, model: str) -> Any:
    """SAM's network from an official file such as ``sam_vit_h_4b8939.pth``, read as tensors only.

    Args:
        model: one of ``SAM_MODELS``.

    Raises:
        SetupError: the file is missing, damaged or of another architecture.
    """
    import torch
    from segment_anything import sam_model_registry

    if not checkpoint.is_file():
        raise SetupError(f"sam_checkpoint={checkpoint} does not exist", "masks=grabcut needs no weights")
    sam = sam_model_registry[model]()
    try:
        sam.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SetupError(f"{checkpoint} is not a checkpoint of SAM {model}: {reason}", "check sam_model=") from error
    return sam

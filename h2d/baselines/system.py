"""What a comparison asks of a system: prompts and poses in, images out, and what decided them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch


@dataclass(frozen=True)
class Generated:
    """One image and what belongs to it.

    Args:
        image: uint8 ``(S, S, 3)``.
        panels: what the system was shown, uint8 ``(S, S, 3)`` by label; the same labels for every image.
        remarks: what went otherwise than asked, each as ``kind: details``.
    """

    image: np.ndarray
    panels: dict[str, np.ndarray]
    remarks: tuple[str, ...] = ()


class System(Protocol):
    """Generates people from texts and poses."""

    name: str

    def protocol(self) -> dict[str, Any]:
        """Everything that decides the images, as plain values: settings, drawing, weights with their SHA-256."""
        ...

    def generate(self, prompts: list[str], poses: np.ndarray, generators: list[torch.Generator]) -> list[Generated]:
        """One image for each prompt; it depends on its own prompt, pose and generator only.

        Args:
            prompts: B texts.
            poses: ``(B, 133, 3)``, x and y in pixels of the S x S image.
            generators: one for each image.

        Raises:
            ValueError: an argument has another form.
        """
        ...

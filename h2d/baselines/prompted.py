"""A compared system that is one pipeline of diffusers, called with a text and at most one control picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler

from h2d.baselines.calls import Texts, check_request, paint, ready, run_arguments
from h2d.baselines.settings import Control, Settings
from h2d.baselines.system import Generated
from h2d.pipelines.noise import spawn_each


class PromptedSystem:
    """A :class:`~h2d.baselines.system.System` around a pipeline.

    Args:
        settings: how to run.
        pipeline: takes embeddings, latents, a list of generators and, with a control, ``image`` ``(B, 3, S, S)`` in
            [0, 1]; answers with clean latents. Its scheduler is a DDIM.
        weights: where they come from; see :func:`h2d.baselines.places.record`.
        control: None for a system that sees the text only.
    """

    def __init__(self, settings: Settings, pipeline: Any, weights: dict[str, Any], control: Control | None) -> None:
        assert isinstance(pipeline.scheduler, DDIMScheduler)
        self.name = settings.name
        self.settings = settings
        self.pipeline = ready(pipeline, settings)
        self.weights = weights
        self.control = control

    def protocol(self) -> dict[str, Any]:
        """Everything that decides the images."""
        drawn = "nothing: text only" if self.control is None else self.control.drawing
        strength = None if self.control is None or self.control.strength is None else self.settings.preset.strength
        return self.settings.protocol() | {"drawn": drawn, "strength": strength, "weights": self.weights}

    @torch.no_grad()
    def generate(self, prompts: list[str], poses: np.ndarray, generators: list[torch.Generator]) -> list[Generated]:
        """See :class:`h2d.baselines.system.System`."""
        settings = self.settings
        check_request(prompts, poses, generators, settings.size)
        panels = [{} if self.control is None else {"pose": self.control.draw(p, settings.size)} for p in poses]
        texts = Texts.of(self.pipeline, prompts, settings.preset)
        images = paint(
            self.pipeline,
            **texts.arguments(),
            **run_arguments(self.pipeline, settings, spawn_each(generators, len(prompts))),
            **self._control_arguments(panels),
        )
        return [
            Generated(image, shown, remarks)
            for image, shown, remarks in zip(images, panels, texts.remarks, strict=True)
        ]

    def _control_arguments(self, panels: list[dict[str, np.ndarray]]) -> dict[str, Any]:
        if self.control is None:
            return {}
        pictures = np.stack([shown["pose"] for shown in panels])
        options: dict[str, Any] = {"image": torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255}
        if self.control.strength is not None:
            options[self.control.strength] = self.settings.preset.strength
        return options

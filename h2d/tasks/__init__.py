"""How each network trains: one Lightning module for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2d.errors import ConfigError

if TYPE_CHECKING:
    from h2d.config import Experiment
    from h2d.tasks.base import DiffusionTask


def build_task(experiment: Experiment) -> DiffusionTask:
    """The task that ``experiment.task`` names, on its base model.

    Raises:
        ConfigError: it is ``evaluate``, which trains nothing.
    """
    from h2d.tasks.autoencoder import Autoencoder
    from h2d.tasks.hand import HandGenerator
    from h2d.tasks.outpaint import Outpainter
    from h2d.tasks.text_to_image import TextToImage

    tasks: dict[str, type[DiffusionTask]] = {
        "hand": HandGenerator,
        "outpaint": Outpainter,
        "autoencoder": Autoencoder,
        "text_to_image": TextToImage,
    }
    if experiment.task not in tasks:
        raise ConfigError(f"task {experiment.task} trains nothing", "`h2d evaluate` is the command for it")
    return tasks[experiment.task].from_base(experiment)

"""TensorBoard files of a run that neither fill the disk nor end the run when the disk is full."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from h2d.images import encode_jpeg

JPEG_QUALITY = 80


class Board(TensorBoardLogger):
    """Lightning's logger in the run's own folder. What cannot be written is lost, warned of once and counted.

    A new event file is begun after a failure, so that the curves go on when there is space again.

    Args:
        folder: of the run.
        first_step: optimiser steps that are done; what a killed run had logged of later ones is hidden.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        purge = {"purge_step": first_step} if first_step else {}
        super().__init__(folder, name="", version="", default_hp_metric=False, **purge)
        self.failures = 0

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """As Lightning's."""
        self._try(lambda: TensorBoardLogger.log_metrics(self, metrics, step))

    @rank_zero_only
    def log_hyperparams(self, *arguments: Any, **options: Any) -> None:
        """As Lightning's."""
        self._try(lambda: TensorBoardLogger.log_hyperparams(self, *arguments, **options))

    @rank_zero_only
    def save(self) -> None:
        """As Lightning's."""
        self._try(lambda: TensorBoardLogger.save(self))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """As Lightning's."""
        self._try(lambda: TensorBoardLogger.finalize(self, status))

    def _try(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except (OSError, ValueError) as error:  # Lightning turns any error of a scalar into a ValueError
            if isinstance(error, ValueError) and not isinstance(error.__cause__, OSError):
                raise
            self.failures += 1
            self._experiment = None
            if self.failures == 1:
                reason = error.__cause__ or error
                print(f"warning: TensorBoard: {reason}; training goes on without", file=sys.stderr, flush=True)


def add_picture(writer: Any, tag: str, image: np.ndarray, step: int) -> None:
    """Add a picture, uint8 ``(H, W, 3)``, as a JPEG: a tenth of the size of the PNG that ``add_image`` would write.

    Args:
        writer: a ``SummaryWriter``.
        tag: name of the picture.
        image: what to show.
        step: of the run.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    height, width = image.shape[:2]
    data = encode_jpeg(image, JPEG_QUALITY)
    content = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=content)]), step)

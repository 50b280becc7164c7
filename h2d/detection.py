"""Poses of generated images, found in a process of their own.

MediaPipe must not live in a process that later forks, as training does when it starts its data workers, and a crash
in its native code must not end a run. Nothing here imports torch, since every detecting process imports this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from types import TracebackType

import numpy as np
from PIL import Image

from h2d.annotators.pose import HolisticPose, PoseResult
from h2d.errors import SetupError
from h2d.workers import start_worker

DETECT_SIZE = 512
"""Side in pixels to which smaller images are enlarged: MediaPipe misses small hands."""

Detector = Callable[[Sequence[np.ndarray]], list[PoseResult]]
"""Finds one person in each uint8 ``(H, W, 3)`` image, in pixels of that image."""

_holistic = HolisticPose()


class PoseDetector:
    """A :data:`Detector` on MediaPipe Holistic. Close it, or use it as a context, to end its processes.

    Args:
        detect_size: smaller images are enlarged to this side (bicubic) before they are looked at.
        jobs: processes.
    """

    def __init__(self, detect_size: int = DETECT_SIZE, jobs: int = 1) -> None:
        self.detect_size = detect_size
        self._pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=start_worker)

    def __call__(self, images: Sequence[np.ndarray]) -> list[PoseResult]:
        """Poses of the images, in order.

        Raises:
            SetupError: a detecting process died.
        """
        try:
            return list(self._pool.map(partial(detect_enlarged, detect_size=self.detect_size), images))
        except BrokenProcessPool as error:
            raise SetupError("MediaPipe's process died", "`h2d doctor` checks the installation") from error

    def __enter__(self) -> PoseDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)


def detect_enlarged(image: np.ndarray, detect_size: int) -> PoseResult:
    """Pose of an image in its own pixels, found on a copy whose shorter side has at least ``detect_size`` pixels."""
    scale = max(1.0, detect_size / min(image.shape[:2]))
    if scale == 1:
        return _holistic.detect(image)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    result = _holistic.detect(np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)))
    pose = result.pose.copy()
    pose[:, :2] *= np.array((image.shape[1] / size[0], image.shape[0] / size[1]), np.float32)
    return PoseResult(pose, result.score, result.found)

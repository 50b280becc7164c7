"""Poses of generated images, found in a process of their own.

MediaPipe must not live in a process that later forks, as training does when it starts its data workers, and a crash
in its native code must not end a run. Nothing here imports torch, since every detecting process imports this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from types import TracebackType
from typing import TypeVar

import numpy as np
from PIL import Image

from h2d.annotators.pose import HolisticPose, PoseResult
from h2d.errors import SetupError
from h2d.workers import start_worker

DETECT_SIZE = 512
"""Side in pixels to which smaller images are enlarged: MediaPipe misses small hands."""

Detector = Callable[[Sequence[np.ndarray]], list[PoseResult]]
"""Finds one person in each uint8 ``(H, W, 3)`` image, in pixels of that image."""

Found = TypeVar("Found")

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
        return self.submit(images)()

    def submit(self, images: Sequence[np.ndarray]) -> Callable[[], list[PoseResult]]:
        """Start to look at the images.

        Returns:
            Waits for their poses, and raises, as a call of the detector does; however often it is called.

        Raises:
            SetupError: a detecting process died before.
        """
        return self._start(detect_enlarged, images)

    def hands(self, images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Hands in each of the images, in order.

        Returns:
            float32 ``(21, 3)`` for each hand: x, y in pixels of the image, z on the scale of x and relative to the
            wrist, less is nearer.

        Raises:
            SetupError: a detecting process died.
        """
        return self._start(hands_enlarged, images)()

    def _start(
        self, find: Callable[[np.ndarray, int], Found], images: Sequence[np.ndarray]
    ) -> Callable[[], list[Found]]:
        with _death_named():
            futures = [self._pool.submit(find, image, self.detect_size) for image in images]

        def wait() -> list[Found]:
            with _death_named():
                return [future.result() for future in futures]

        return wait

    def __enter__(self) -> PoseDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def _death_named() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise SetupError("MediaPipe's process died", "`h2d doctor` checks the installation") from error


def detect_enlarged(image: np.ndarray, detect_size: int) -> PoseResult:
    """Pose of an image in its own pixels, found on a copy whose shorter side has at least ``detect_size`` pixels."""
    copy, back = _enlarged(image, detect_size)
    result = _holistic.detect(copy)
    pose = result.pose.copy()
    pose[:, :2] *= back
    return PoseResult(pose, result.score, result.found)


def hands_enlarged(image: np.ndarray, detect_size: int) -> list[np.ndarray]:
    """Hands ``(21, 3)`` of an image in its own pixels, found on such a copy; z follows x."""
    copy, back = _enlarged(image, detect_size)
    return [hand * back[[0, 1, 0]] for hand in _holistic.hands(copy)]


def _enlarged(image: np.ndarray, detect_size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image or its larger copy, and the factors ``(2,)`` that bring the copy's x and y back to the image."""
    scale = max(1.0, detect_size / min(image.shape[:2]))
    if scale == 1:
        return image, np.ones(2, np.float32)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    copy = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return copy, np.array((image.shape[1] / size[0], image.shape[0] / size[1]), np.float32)

"""Persons without their background, for FID and KID of the foreground (Table I).

The paper removes backgrounds with SAM and gives no prompt; ours is a box around the person and the keypoints of body
and hands. Without SAM's weights MediaPipe's selfie segmentation takes its place, under another name. Real and
generated images go through the same rule. Nothing here imports torch, since the segmenting process imports this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from typing import Any, NamedTuple, Protocol

import numpy as np

from h2d.annotators.prompts import Prompt, enlarged
from h2d.annotators.sam import Sam, load_sam, sam_model
from h2d.annotators.segment import PersonSegmenter
from h2d.errors import SetupError
from h2d.files import sha256_of
from h2d.skeleton import BODY, HANDS
from h2d.weights import WEIGHTS, weight_file
from h2d.workers import start_worker

BOX_MARGIN = 0.1
"""The box reaches this share of its width and height beyond the keypoints on each side."""
MIN_COVERED = 0.8
"""Share of the asked-for keypoints that a mask of SAM must hold."""


class Cut(NamedTuple):
    """An image with black background, uint8 ``(H, W, 3)``, or None and a reason, ``kind: details``."""

    image: np.ndarray | None
    reason: str = ""


class Foreground(Protocol):
    """What removes backgrounds.

    ``name`` ends the names of the numbers: ``fid_fg``, ``fid_fg_selfie``. ``made_by`` and ``sha256``, of the file that
    its weights come from, are for the report; "" where there is no such file.
    """

    name: str
    made_by: str
    sha256: str

    def cut(self, images: Sequence[np.ndarray], poses: Sequence[np.ndarray]) -> list[Cut]:
        """Persons of uint8 images ``(H, W, 3)`` with poses ``(133, 3)``, in order."""

    def close(self) -> None:
        """End what was started."""


class PersonSam(Sam):
    """SAM that offers three masks for a person and takes the one that it is most sure of and that fits the points."""

    several = True

    def _choose(self, prompt: Prompt, masks: Any, estimates: Any) -> tuple[Any, Any]:
        """The mask with the highest estimate of those that hold the points, empty where none does."""
        column, row = (prompt.points * np.array(prompt.size[::-1]) / prompt.picture.shape[1::-1]).astype(int).T
        held = masks[:, row, column].float().mean(dim=1) >= MIN_COVERED
        best = estimates.masked_fill(~held, float("-inf")).argmax()
        return masks[best] & held[best], estimates[best]


class SamForeground:
    """Persons as SAM sees them; ``sha256`` is that of its checkpoint."""

    name = "fg"

    def __init__(self, sam: PersonSam, sha256: str = "") -> None:
        self._sam, self.sha256 = sam, sha256
        self.made_by = sam.made_by

    def cut(self, images: Sequence[np.ndarray], poses: Sequence[np.ndarray]) -> list[Cut]:
        """See ``Foreground``.

        Raises:
            SetupError: the device has not memory enough for a single image.
        """
        prompts = [person_prompt(image, pose, self._sam.side) for image, pose in zip(images, poses, strict=True)]
        answers = iter(self._sam.answer([prompt for prompt in prompts if prompt is not None]))
        return [
            Cut(None, "nobody to cut out: the pose has no keypoint of body or hands")
            if prompt is None
            else _without_background(
                image, next(answers).mask, f"no mask of SAM holds {MIN_COVERED:.0%} of the keypoints"
            )
            for image, prompt in zip(images, prompts, strict=True)
        ]

    def close(self) -> None:
        """See ``Foreground``: nothing was started."""


class SelfieForeground:
    """Persons as MediaPipe's selfie segmentation sees them, in a process of its own. Close it, or use ``with``."""

    name = "fg_selfie"
    sha256 = ""

    def __init__(self) -> None:
        self.made_by = f"mediapipe-{version('mediapipe')} selfie segmentation"  # the weights are in its wheel
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=start_worker)

    def cut(self, images: Sequence[np.ndarray], poses: Sequence[np.ndarray]) -> list[Cut]:
        """See ``Foreground``; poses make no difference.

        Raises:
            SetupError: the segmenting process died.
        """
        try:
            masks = list(self._pool.map(_selfie_mask, images))
        except BrokenProcessPool as error:
            raise SetupError("MediaPipe's process died", "`h2d doctor` checks the installation") from error
        pairs = zip(images, masks, strict=True)
        return [_without_background(image, mask, "selfie segmentation sees nobody") for image, mask in pairs]

    def __enter__(self) -> SelfieForeground:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(cancel_futures=True)


def load_foreground(device: str = "auto", kind: str = "auto", batch: int = 4) -> SamForeground | SelfieForeground:
    """SAM ViT-H, or selfie segmentation.

    Args:
        device: of SAM; ``auto`` takes CUDA when there is one.
        kind: "sam", "selfie", or "auto" for SAM where its weights are on this machine.
        batch: images that SAM looks at together, at most.

    Raises:
        SetupError: SAM's file is damaged, or not there and asked for.
    """
    here = next(weights for weights in WEIGHTS if weights.name == "sam-vit-h").find() is not None
    if kind == "selfie" or (kind == "auto" and not here):
        return SelfieForeground()
    checkpoint = weight_file("sam-vit-h")
    model = sam_model(checkpoint)
    sam = PersonSam(load_sam(checkpoint, model), model, device, batch)
    return SamForeground(sam, sha256_of(checkpoint))


def person_prompt(image: np.ndarray, pose: np.ndarray, side: int) -> Prompt | None:
    """What SAM is asked about the person of ``pose`` (133, 3) in uint8 ``image`` (H, W, 3); None without a point.

    Args:
        side: length of the longer side of the picture that it is shown.
    """
    height, width = image.shape[:2]
    inside = (pose[:, 2] > 0) & (pose[:, :2] >= 0).all(axis=1) & (pose[:, :2] < (width, height)).all(axis=1)
    points = np.concatenate([pose[part, :2][inside[part]] for part in (BODY, HANDS)])
    if not len(points):
        return None
    low, high = pose[inside, :2].min(axis=0), pose[inside, :2].max(axis=0)
    margin = BOX_MARGIN * (high - low)
    box = np.r_[np.maximum(low - margin, 0), np.minimum(high + margin, (width - 1, height - 1))]
    picture = enlarged(image, side)
    scale = np.array(picture.shape[1::-1]) / (width, height)
    place = (slice(0, height), slice(0, width))
    return Prompt(place, picture, points * scale, np.ones(len(points), int), box * np.tile(scale, 2))


def cut_pairs(
    foreground: Foreground,
    generated: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    asked: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
) -> list[tuple[Cut, Cut]]:
    """Generated images and their real ones without background; a pair counts when both are there.

    Args:
        foreground: removes the background.
        generated: uint8 images ``(H, W, 3)``.
        found: poses ``(133, 3)`` in them; where nobody was found the one that was asked for takes its place.
        asked: poses that the images were generated from.
        real: the photographs of the same persons.
        truth: poses in them.
    """
    poses = [pose if (pose[:, 2] > 0).any() else other for pose, other in zip(found, asked, strict=True)]
    return list(zip(foreground.cut(generated, poses), foreground.cut(real, truth), strict=True))


def _without_background(image: np.ndarray, mask: np.ndarray, reason: str) -> Cut:
    if not mask.any():
        return Cut(None, f"nobody to cut out: {reason}")
    return Cut(np.where(mask[..., None], image, np.uint8(0)))


_segmenter = PersonSegmenter()


def _selfie_mask(image: np.ndarray) -> np.ndarray:
    return _segmenter.probability(image) > 0.5

"""Poses that cannot be sampled, and what is known to go badly with some, said before the sampling starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor
from transformers import CLIPTokenizer

from h2d.masks import hand_extent, present_hands
from h2d.skeleton import BODY_NAMES, HAND_SLICES, NUM_KEYPOINTS

Poses = np.ndarray | Sequence[np.ndarray]
MIN_LATENT_CELLS = 2
MAX_FRAMES = 4
"""A labelled keypoint farther away than so many canvases is a mistake, such as the pixels of another image."""


def check_poses(pose: Poses | None, count: int, height: int, width: int) -> list[np.ndarray]:
    """The people of each image, float32 ``(P, 133, 3)``.

    Args:
        pose: one person ``(133, 3)`` for all of ``count`` prompts; ``(B, 133, 3)``, a person for each image; or a list
            with ``(133, 3)`` or ``(P, 133, 3)`` for each image.
        count: number of prompts.
        height: of the canvas.
        width: of the canvas.

    Raises:
        ValueError: for another shape, or a labelled keypoint that is not finite or far from the canvas.
    """
    if not isinstance(pose, np.ndarray | list | tuple) or not all(isinstance(one, np.ndarray) for one in pose):
        kinds = type(pose).__name__
        if isinstance(pose, list | tuple):
            kinds += " of " + " and ".join(sorted({type(one).__name__ for one in pose}))
        raise ValueError(f"pose must be a NumPy array or a list of arrays, such as [scene.people], got a {kinds}")
    one_for_all = isinstance(pose, np.ndarray) and pose.ndim == 2
    images: list[np.ndarray] = [pose] * count if one_for_all else list(pose)  # type: ignore[list-item]  # see one_for_all
    people = [one.astype(np.float32).reshape(-1, *one.shape[-2:]) for one in images if one.ndim in (2, 3)]
    if len(people) != len(images) or not people or any(one.shape[1:] != (NUM_KEYPOINTS, 3) for one in people):
        seen = np.shape(pose) if isinstance(pose, np.ndarray) else [one.shape for one in images]
        raise ValueError(
            f"pose must be an array (133, 3), (B, 133, 3), or a list of (133, 3) or (P, 133, 3), got {seen}"
        )
    for one in people:
        _check_numbers(one, height, width)
    return people


def _check_numbers(people: np.ndarray, height: int, width: int) -> None:
    labelled = people[people[..., 2] > 0]
    if not np.isfinite(labelled).all() or np.isnan(people[..., 2]).any():
        raise ValueError("pose must have finite coordinates where v > 0, got NaN or infinity")
    farthest = np.abs(labelled[:, :2]).max(initial=0)
    if farthest > MAX_FRAMES * max(height, width):
        raise ValueError(f"pose must be in pixels of the {width} x {height} canvas, got a coordinate of {farthest:.0f}")


def pose_warnings(people: np.ndarray, height: int, width: int, factor: int) -> list[str]:
    """One line for each hand and problem, or for an image without hands.

    Args:
        people: ``(P, 133, 3)`` in pixels of the canvas.
        height: of the canvas.
        width: of the canvas.
        factor: image pixels per latent cell and side.
    """
    lines = [
        f"{'' if len(people) == 1 else f'person {number}: '}{line}"
        for number, pose in enumerate(people, start=1)
        for hand in present_hands(pose)
        for line in _hand_warnings(pose, hand, height, width, factor)
    ]
    if not any(present_hands(pose) for pose in people):
        lines.append("the pose has no hand: stage I has nothing to make, the outpainter paints everything")
    return lines


def mask_warnings(mask: Tensor, names: Sequence[str]) -> list[str]:
    """A line when stage I saw no hand in its own picture.

    Args:
        mask: predicted, ``(1, S, S)`` in [0, 1].
        names: the hands that the picture was to show.
    """
    if bool((mask > 0.5).any()):
        return []
    hands = " and the ".join(names)
    return [f"the mask of the {hands} hand came out empty: stage II paints without it; another seed may help"]


def call_warnings(
    people: Sequence[np.ndarray],
    texts: Sequence[Sequence[str]],
    height: int,
    width: int,
    factor: int,
    tokenizer: CLIPTokenizer,
) -> list[list[str]]:
    """The lines of each image: its ``people`` as in :func:`pose_warnings`, and its place in each list of ``texts``."""
    return [
        pose_warnings(of_image, height, width, factor) + text_warnings(said, tokenizer)
        for of_image, *said in zip(people, *texts, strict=True)
    ]


def text_warnings(texts: Iterable[str], tokenizer: CLIPTokenizer) -> list[str]:
    """A line for each text that is longer than the text encoder reads, with the part that is lost."""
    lines, longest = [], tokenizer.model_max_length
    for text in dict.fromkeys(texts):
        tokens = tokenizer(text, truncation=False, verbose=False).input_ids
        if len(tokens) > longest:
            lost = tokenizer.decode(tokens[longest - 1 : -1]).strip()
            lines.append(
                f"the prompt has {len(tokens)} tokens, the text encoder reads {longest}: it never sees {lost!r}"
            )
    return lines


def _hand_warnings(pose: np.ndarray, hand: str, height: int, width: int, factor: int) -> list[str]:
    warnings = []
    points = pose[HAND_SLICES[hand]]
    points = points[points[:, 2] > 0, :2]
    if ((points < 0) | (points >= (width, height))).any(axis=1).mean() > 0.5:
        warnings.append(f"the {hand} hand lies outside the {width} x {height} frame for the most part")
    x0, y0, x1, y1 = hand_extent(pose, (hand,))
    span, smallest = max(x1 - x0, y1 - y0), MIN_LATENT_CELLS * factor
    if span < smallest:
        warnings.append(f"the {hand} hand is less than {smallest} px wide and will lose its fingers")
    missing = [part for part in ("elbow", "wrist") if pose[BODY_NAMES.index(f"{hand}_{part}"), 2] == 0]
    if missing:
        warnings.append(f"the {hand} hand has no arm in the pose ({' and '.join(missing)} missing) and may float")
    return warnings

"""Stage I for people: the square of each hand, what its network is shown, and what comes back to its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from h2d.data.samples import crop_mask
from h2d.masks import only_hands, shrink_maps
from h2d.pipelines.canvas import HandPlace, PlacedHand, hand_places
from h2d.pipelines.rows import Seeds, Text
from h2d.rendering import finger_heatmaps


def generate_hands(
    stage: Any,
    settings: Mapping[str, Any],
    people: Sequence[np.ndarray],
    labels: Sequence[np.ndarray] | None,
    seeds: Sequence[Seeds],
    text: Text,
    **options: Any,
) -> list[list[PlacedHand]]:
    """All hands of all images in one batch; a list for each image, empty where it shows none.

    Args:
        stage: a :class:`HandPipeline`, which makes the crops.
        settings: of a :class:`TwoStagePipeline`: ``hand_size``, ``sigma_px``, ``margin`` and ``wrist``.
        people: ``(P, 133, 3)`` of each image, in pixels of the canvas.
        labels: of each image, to guide the layout; None is mask-free inference.
        seeds: of each image.
        text: of each image.
        **options: of ``stage``.
    """
    hands: list[list[PlacedHand]] = [[] for _ in people]
    places = [(row, place) for row, one in enumerate(people) for place in hand_places(one, settings["margin"])]
    if not places:
        return hands
    size, masks = settings["hand_size"], None
    maps = np.stack([_draw(people[row][place.person], place, settings) for row, place in places])
    if labels is not None:
        masks = torch.stack([crop_mask(labels[row], place.names, place.box, size) for row, place in places])
    output = stage(
        None,
        shrink_maps(torch.from_numpy(maps), size // stage.parts.factor),
        hand_mask=masks,
        generator=[seeds[row].hands[place.person][place.names[0]] for row, place in places],
        output_type="pt",
        **text.of([row for row, _ in places]),
        **options,
    )
    images = 2 * output.images.float().cpu() - 1
    for (row, place), crop, mask in zip(places, images, output.masks.cpu(), strict=True):
        hands[row].append(PlacedHand(place, crop, mask))
    return hands


def _draw(pose: np.ndarray, place: HandPlace, settings: Mapping[str, Any]) -> np.ndarray:
    """Finger heat maps ``(10, S, S)`` of the hands of a place."""
    size = settings["hand_size"]
    in_crop = only_hands(place.box.to_crop(pose, size), place.names)
    return finger_heatmaps(in_crop, size, settings["sigma_px"], settings["wrist"])

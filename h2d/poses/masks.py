"""Where the hands of a picture are: its own exact masks, found ones, or one that the user gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2d.annotators.hand_masks import hands_of
from h2d.annotators.hand_regions import distance_to_bones
from h2d.annotators.segment import GrabCutSegmenter, SamSegmenter, Segmenter
from h2d.errors import DataError, SetupError
from h2d.images import load_image
from h2d.masks import present_hands
from h2d.poses.scene import Scene
from h2d.skeleton import HAND_LABELS

GIVE_ONE = "give a mask with --hand-mask"
_FORM = "use 0 background, 1 right hand, 2 left hand; or black background and white hands"


def find_hands(scene: Scene, sam: Path | None = None) -> np.ndarray:
    """Masks of the hands of all people; of somebody without a labelled hand there are none.

    Args:
        scene: with a picture, or with masks, which are then the answer.
        sam: an official checkpoint of Segment Anything, as the paper used (Section IV-A); without it, GrabCut looks
            for the hands.

    Returns:
        uint8 ``(H, W)``: 0 background, 1 a right hand, 2 a left one. Where two hands claim a pixel, the nearer has it.

    Raises:
        DataError: there is no picture, or a mask is not credible. Names the scene, the person and the hand.
        SetupError: the checkpoint cannot be used.
    """
    if scene.hands is not None:
        return scene.hands
    if not scene.has_picture:
        raise DataError(f"{scene.name} has no picture in which hands could be found", GIVE_ONE)
    people = _inside(scene)
    found = np.zeros(scene.image.shape[:2], np.uint8)
    if not any(present_hands(pose) for pose in people):
        return found
    segmenter, contested = _segmenter(sam), np.zeros(found.shape, bool)
    for number, pose in enumerate(people, 1):
        hands = _segment(segmenter, scene, pose, number)
        contested |= (hands > 0) & (found > 0) & (hands != found)
        found = np.where(hands > 0, hands, found)
    return np.where(contested, _nearest_hand(people, found.shape), found) if contested.any() else found


def read_hand_mask(path: Path, scene: Scene) -> np.ndarray:
    """A mask that the user drew: labels 0, 1, 2, or black and white; then each pixel belongs to the nearest hand.

    Args:
        path: a picture of the size of the scene's image, without shades, so PNG rather than JPEG.
        scene: whose hands they are.

    Returns:
        uint8 ``(H, W)``: 0 background, 1 a right hand, 2 a left one.

    Raises:
        DataError: the mask is damaged, of another size, empty, full, or has other values or hands than it may have.
    """
    picture = load_image(path)
    if picture.shape != scene.image.shape:
        (height, width), (rows, columns) = scene.image.shape[:2], picture.shape[:2]
        raise DataError(
            f"{path} is {columns} x {rows} pixels, {scene.name} is {width} x {height}", "give the same size"
        )
    mask = picture[..., 0]
    if (picture != mask[..., None]).any():
        raise DataError(f"{path} is coloured", _FORM)
    values = set(np.unique(mask).tolist())
    if not values <= {0, *HAND_LABELS.values()} and not values <= {0, 255}:
        some = ", ".join(map(str, sorted(values)[:6])) + (", ..." if len(values) > 6 else "")
        raise DataError(f"{path} holds the values {some}", _FORM)
    if not mask.any() or mask.all():
        what = "marks every pixel (a transparent background counts as white)" if mask.any() else "marks no pixel"
        raise DataError(f"{path} {what}", _FORM)
    people = _inside(scene)
    return _shared_out(mask, people, path, scene) if 255 in values else _checked(mask, people, path, scene)


def _inside(scene: Scene) -> np.ndarray:
    """The people, with what lies outside the picture not labelled."""
    size, people = scene.image.shape[1::-1], scene.people.copy()
    outside = ((people[..., :2] < 0) | (people[..., :2] >= size)).any(axis=-1)
    people[outside, 2] = 0
    return people


def _segmenter(sam: Path | None) -> Segmenter:
    if sam is None:
        return GrabCutSegmenter()
    try:
        return SamSegmenter.load(sam)
    except SetupError as error:
        hint = "give an official file such as sam_vit_h_4b8939.pth; without one, GrabCut looks for the hands"
        raise SetupError(error.message, hint) from error


def _segment(segmenter: Segmenter, scene: Scene, pose: np.ndarray, number: int) -> np.ndarray:
    if not present_hands(pose):
        return np.zeros(scene.image.shape[:2], np.uint8)
    try:
        return segmenter.segment(scene.image, pose).hands
    except DataError as error:
        who = f"{scene.name}, person {number}" if len(scene.people) > 1 else scene.name
        raise DataError(f"{who}: {error.message}", GIVE_ONE) from error


def _shared_out(mask: np.ndarray, people: np.ndarray, path: Path, scene: Scene) -> np.ndarray:
    if not any(present_hands(pose) for pose in people):
        raise DataError(f"{path}: {scene.name} has no hand to which its white could belong", "give labels 1 and 2")
    return np.where(mask > 0, _nearest_hand(people, mask.shape), np.uint8(0))


def _checked(mask: np.ndarray, people: np.ndarray, path: Path, scene: Scene) -> np.ndarray:
    present = {hand for pose in people for hand in present_hands(pose)}
    for hand, label in HAND_LABELS.items():
        if hand not in present and (mask == label).any():
            raise DataError(f"{path} marks a {hand} hand ({label}), but {scene.name} shows no {hand} hand", _FORM)
    return mask


def _nearest_hand(people: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 ``(H, W)``: the label of the hand whose bones are nearest, of all hands of all people."""
    hands = [(HAND_LABELS[side], points) for pose in people for side, points in hands_of(pose).items()]
    distances = [distance_to_bones(points, shape) for _, points in hands]
    labels = np.array([label for label, _ in hands], np.uint8)
    return labels[np.argmin(distances, axis=0)]

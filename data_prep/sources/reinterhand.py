"""Re:InterHand: rendered hands of ten captured people in many environments (Moon et al., NeurIPS 2023).

    {capture}/Mugsy_cameras/cam_params.json                                 camera -> focal, princpt, R, t (mm)
    {capture}/Mugsy_cameras/envmap_per_{frame,segment}/images/{camera}/{frame:06d}.png
    {capture}/orig_fits/{right,left}/Keypoints/keypoint-{frame:06d}.json    24 x 3 mm
    {capture}/keypoints_orig/keypoints_orig/{frame}.json                    42 x 3 mm, a missing hand is all zero

No file names where the masks are or how they are coded: both are keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np

from data_prep.settings import Least
from data_prep.sources import Labels, Options, Row, Source
from data_prep.sources.joints import Camera, hand_pose
from data_prep.sources.reinterhand_files import HOME, frames_with_joints, pictures, read_cameras, read_joints
from data_prep.sources.reinterhand_masks import check_inside, mask_path, named_hands, split_hands
from data_prep.sources.sequence_captions import SequenceCaptions
from h2d.errors import DataError
from h2d.images import ImageError, load_image

TEST_CAPTURES = ("m--20221215--0949--RNS217", "m--20221216--0953--NKC880", "m--20230317--1130--QZX685")
"""How the names of the official test captures begin."""
_CAPTURE = re.compile(r"m--\d+--\d+--[A-Za-z0-9]+(--.*)?")
"""Date, time, participant and more."""


@dataclass(frozen=True)
class ReinterhandOptions(Options):
    """The keys of ``reinterhand``."""

    envmap: Annotated[
        Literal["per_frame", "per_segment"], "the renderings to read: light of every frame (5 fps) or segment (30 fps)"
    ] = "per_frame"
    joints: Annotated[
        Literal["orig_fits", "keypoints_orig"], "the joints to read: 24 for each hand in two files, or 42 in one"
    ] = "orig_fits"
    mask_path: Annotated[str, "where the masks lie below a capture; may hold {envmap}, {camera} and {frame}"] = (
        "Mugsy_cameras/{envmap}/masks/{camera}/{frame:06d}.png"
    )
    mask_coding: Annotated[
        Literal["binary", "labels", "none"], "binary: hands are bright; labels: each has its value; none: no masks here"
    ] = "binary"
    mask_threshold: Annotated[int, "binary masks: brighter pixels, of 0 to 255, are hands", Least(0)] = 127
    mask_right: Annotated[int, "masks of labels: value of the right hand", Least(1)] = 1
    mask_left: Annotated[int, "masks of labels: value of the left hand", Least(1)] = 2
    sequence_captions: Annotated[Path | None, 'JSON of captions by capture, {"m--20220628--...": "..."}'] = None


class Reinterhand(Source):
    """The images of the third-person cameras of every capture below the root."""

    name = "reinterhand"
    has_poses = True
    has_masks = True
    uses_own_poses = True
    options_type = ReinterhandOptions

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.has_masks = self.options.mask_coding != "none"
        self.envmap = f"envmap_{self.options.envmap}"

    def scan(self, root: Path) -> Iterator[Row | tuple[Row, str]]:
        """One row for each picture in the folders of the cameras, those that cannot be used with the reason."""
        captions = SequenceCaptions(self.options.sequence_captions)
        captures = sorted(path.name for path in root.iterdir() if _CAPTURE.fullmatch(path.name) and path.is_dir())
        if not captures:
            raise DataError(
                f"{root} holds no capture, a folder m--DATE--TIME--PARTICIPANT--...", f"check root=; {HOME}"
            )
        captions.check(captures)
        for capture in captures:
            yield from self._scan(root, capture, json.dumps({"caption": captions.of(capture)}))

    def labels(self, root: Path, row: Row) -> Labels:
        """The pose, of hands alone, their masks where the data set has them, and the caption of the capture."""
        capture, camera, frame = _place(row.image)
        caption = json.loads(row.labels)["caption"]
        joints = read_joints(root / capture, self.options.joints, frame)
        if not joints:
            raise DataError("no hand in the joints of the frame")
        see = read_cameras(root / capture)[camera].project
        pixels = {side: see(points)[:, :2] for side, points in joints.items()}
        if not self.has_masks:
            return Labels(pose=hand_pose(pixels, _size(load_image(root / row.image, row.image))), caption=caption)
        mask = self._read_mask(root, row)
        pose = hand_pose(pixels, _size(mask))
        return Labels(pose=pose, hands=self._hands(mask, pose), caption=caption)

    def _scan(self, root: Path, capture: str, labels: str) -> Iterator[Row | tuple[Row, str]]:
        cameras, frames = read_cameras(root / capture), frames_with_joints(root / capture, self.options.joints)
        usable, unmasked = 0, ""
        for path in pictures(root / capture, self.envmap):
            row = _row(path.relative_to(root).as_posix(), labels)
            reason = _problem(row, cameras, frames)
            if not reason and self.has_masks and not self._mask(root, row).is_file():
                reason, unmasked = "no mask file", unmasked or row.image
            usable += not reason
            yield (row, reason) if reason else row
        if unmasked and not usable:
            hint = f"mask_path= says where the masks are, mask_coding=none that there are none; {HOME}"
            missing = self._mask(root, Row("", unmasked))
            raise DataError(f"{missing} does not exist, nor any other mask of its capture", hint)

    def _mask(self, root: Path, row: Row) -> Path:
        capture, camera, frame = _place(row.image)
        return root / capture / mask_path(self.options.mask_path, self.envmap, camera, frame)

    def _read_mask(self, root: Path, row: Row) -> np.ndarray:
        """The brightest channel of a mask, uint8 ``(H, W)``."""
        try:
            return load_image(self._mask(root, row)).max(axis=2)
        except ImageError as error:
            raise DataError(f"mask cannot be read: {error.reason}") from error

    def _hands(self, mask: np.ndarray, pose: np.ndarray) -> np.ndarray:
        options = self.options
        if options.mask_coding == "labels":
            hands = named_hands(mask, options.mask_right, options.mask_left)
        else:
            hands = split_hands(mask > options.mask_threshold, pose)
        check_inside(hands, pose)
        return hands


def _problem(row: Row, cameras: dict[str, Camera], frames: set[int]) -> str:
    """Why an image cannot be used, whatever its mask."""
    place = PurePosixPath(row.image)
    if not place.stem.isdecimal():
        return "name is no number of a frame"
    if place.parent.name not in cameras:
        return f"no parameters of the camera: {place.parent.name}"
    return "" if int(place.stem) in frames else "no joints of the frame"


def _place(image: str) -> tuple[str, str, int]:
    """Capture, camera and frame of an image."""
    place = PurePosixPath(image)
    return place.parts[0], place.parent.name, int(place.stem)


def _row(image: str, labels: str) -> Row:
    """Keys hold date and time, because a participant may come twice."""
    place = PurePosixPath(image)
    date, time, participant = place.parts[0].split("--")[1:4]
    return Row(
        key=f"reinterhand/{date}-{time}-{participant}_{place.parent.name}_{place.stem}",
        image=image,
        split="test" if place.parts[0].startswith(TEST_CAPTURES) else "",
        subject=participant,
        labels=labels,
    )


def _size(image: np.ndarray) -> tuple[int, int]:
    """Width and height."""
    return image.shape[1], image.shape[0]


SOURCE = Reinterhand

"""What to look at before waiting for images: the people, their hands, and what each hand's picture will show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from h2d.masks import CropBox
from h2d.poses.scene import Scene
from h2d.rendering import OVERLAY_RGB, overlay

READABLE = 512
"""A canvas whose shorter side has fewer pixels is enlarged, by a whole factor, until it has them."""
BOTH_RGB = (255, 220, 60)
LINE, LETTERS = 3, 18


def check_picture(scene: Scene, boxes: Sequence[tuple[CropBox, tuple[str, ...]]]) -> np.ndarray:
    """The scene with its keypoints and masks, and each crop square with the names of its hands.

    Args:
        scene: framed, in pixels of the canvas.
        boxes: squares in the same pixels, which may leave the canvas, and the hands that each is for.

    Returns:
        uint8 RGB ``(H, W, 3)``: the canvas, or a whole multiple of its size.
    """
    factor = math.ceil(READABLE / min(scene.image.shape[:2]))
    large = _enlarged(scene, factor)
    picture = Image.fromarray(overlay(large.image, large.people, large.hands))
    for box, hands in boxes:
        _draw(picture, CropBox(box.x * factor, box.y * factor, box.side * factor), hands)
    return np.array(picture)


def _enlarged(scene: Scene, factor: int) -> Scene:
    people = scene.people * np.array([factor, factor, 1], np.float32)
    size = (scene.image.shape[1] * factor, scene.image.shape[0] * factor)
    image = np.array(Image.fromarray(scene.image).resize(size, Image.Resampling.BICUBIC))
    hands = None if scene.hands is None else scene.hands.repeat(factor, axis=0).repeat(factor, axis=1)
    return replace(scene, image=image, people=people, hands=hands)


def _draw(picture: Image.Image, box: CropBox, hands: tuple[str, ...]) -> None:
    """A square with its label above it, or as near to that as the picture has room."""
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(LETTERS)
    colour, text = BOTH_RGB if len(hands) > 1 else OVERLAY_RGB[hands[0]], "+".join(hands)
    pen.rectangle((box.x, box.y, box.x + box.side - 1, box.y + box.side - 1), outline=colour, width=LINE)
    width, height = (math.ceil(side) + 2 * LINE for side in font.getbbox(text)[2:])
    x = min(max(box.x, 0), picture.width - width)
    y = min(max(box.y - height, 0), picture.height - height)
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    pen.text((x + LINE, y + LINE), text, (0, 0, 0), font=font)

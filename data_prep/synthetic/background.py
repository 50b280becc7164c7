"""Backgrounds: walls, gradients, panels, windows, shelves and a horizon, mostly out of focus."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .colours import random_colour
from .textures import noise_texture

Painter = Callable[[np.random.Generator, int], np.ndarray]


def _colour(rng: np.random.Generator) -> np.ndarray:
    return random_colour(rng, (3.0, 0.75), (0.2, 0.95))


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    first, second, strength, angle = _colour(rng), _colour(rng), rng.uniform(0, 0.6), rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:64, 0:64].astype(np.float32) / 64 - 0.5
    t = np.clip(np.cos(angle) * x + np.sin(angle) * y + 0.5, 0, 1)[..., None] * np.float32(strength)
    return cv2.resize((first + (second - first) * t).astype(np.float32), (size, size))


def _panels(rng: np.random.Generator, size: int) -> np.ndarray:
    image = _gradient(rng, size)
    for _ in range(rng.integers(1, 10)):
        x, y = (rng.uniform(-0.2, 0.9, 2) * size).astype(int).tolist()
        w, h = (rng.uniform(0.05, 0.7, 2) ** 1.3 * size).astype(int).tolist()
        colour, thickness = _colour(rng).tolist(), -1 if rng.random() < 0.8 else max(2, size // 100)
        if rng.random() < 0.8:
            cv2.rectangle(image, (x, y), (x + w, y + h), colour, thickness)
        else:
            cv2.circle(image, (x, y), w // 2 + 1, colour, -1)
    return image


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Wallpaper."""
    image, colour = _gradient(rng, size), _colour(rng)
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * rng.uniform(15, 90))
    share = np.clip((wave - rng.uniform(-0.5, 0.7)) * 12, 0, 1)[..., None] * rng.uniform(0.15, 0.7)
    return (image + (colour - image) * share).astype(np.float32)


def _window(rng: np.random.Generator, size: int) -> np.ndarray:
    image, light = _gradient(rng, size), random_colour(rng, (6.0, 0.4), (0.8, 1.0))
    x0, y0 = rng.uniform(-0.2, 0.6), rng.uniform(-0.1, 0.25)
    w, h = rng.uniform(0.15, 0.3), rng.uniform(0.15, 0.4)
    columns, rows = rng.integers(1, 5), rng.integers(1, 4)
    bar = rng.uniform(0.01, 0.04)
    for i in range(columns):
        for j in range(rows):
            a = (int((x0 + i * (w + bar)) * size), int((y0 + j * (h + bar)) * size))
            b = (int((x0 + i * (w + bar) + w) * size), int((y0 + j * (h + bar) + h) * size))
            cv2.rectangle(image, a, b, (light * np.float32(rng.uniform(0.8, 1.0))).tolist(), -1)
    return image


def _shelves(rng: np.random.Generator, size: int) -> np.ndarray:
    image, board = _gradient(rng, size), _colour(rng)
    height, y = rng.uniform(0.15, 0.3), rng.uniform(0.0, 0.15)
    while y < 1:
        x = rng.uniform(0, 0.1)
        while x < 1:
            w, h = rng.uniform(0.015, 0.07), height * rng.uniform(0.5, 0.92)
            if rng.random() < 0.8:
                a, b = (int(x * size), int((y + height - h) * size)), (int((x + w) * size), int((y + height) * size))
                cv2.rectangle(image, a, b, _colour(rng).tolist(), -1)
            x += w + rng.exponential(0.008)
        y += height
        cv2.rectangle(image, (0, int(y * size)), (size, int((y + 0.02) * size)), board.tolist(), -1)
        y += 0.02
    return image


def _horizon(rng: np.random.Generator, size: int) -> np.ndarray:
    """Sky, a ragged line of trees or roofs, and ground."""
    sky = np.array([rng.uniform(0.35, 0.7), rng.uniform(0.5, 0.75), rng.uniform(0.7, 0.95)], np.float32)
    ground = np.array([rng.uniform(0.08, 0.35), rng.uniform(0.12, 0.35), rng.uniform(0.04, 0.2)], np.float32)
    image = np.empty((size, size, 3), np.float32)
    image[:] = sky * np.linspace(0.75, 1.1, size, dtype=np.float32)[:, None, None]
    level = rng.uniform(0.35, 0.75) * size
    ragged = noise_texture()[rng.integers(1024), :, 0]
    line = level - size * 0.06 * np.interp(np.linspace(0, rng.uniform(80, 600), size), np.arange(1024), ragged)
    below = np.arange(size)[:, None] > line[None]
    image[below] = ground * np.float32(rng.uniform(0.4, 0.9))
    image[int(level + 0.08 * size) :] = ground
    return image


KINDS: dict[str, tuple[float, Painter, tuple[float, float]]] = {
    "gradient": (0.18, _gradient, (0.002, 0.02)),
    "panels": (0.34, _panels, (0.002, 0.02)),
    "stripes": (0.12, _stripes, (0.0, 0.01)),
    "window": (0.13, _window, (0.002, 0.015)),
    "shelves": (0.11, _shelves, (0.004, 0.015)),
    "horizon": (0.12, _horizon, (0.004, 0.02)),
}
"""Share, painter and range of the blur (in images) of each kind."""


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) float32 linear light."""
    kind = str(rng.choice(list(KINDS), p=[share for share, _, _ in KINDS.values()]))
    _, painter, blur = KINDS[kind]
    image = _blurred(painter(rng, size), rng.uniform(*blur) * size)
    row, col = rng.integers(0, 512, 2)
    grain = cv2.resize(noise_texture()[row : row + 512, col : col + 512, 0], (size, size))
    image *= (1 + np.float32(rng.uniform(0.0, 0.12)) * grain)[..., None]
    return np.clip(image, 0, 1) * np.float32(0.85)


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; wide ones are done on a smaller copy."""
    if sigma < 0.4:
        return image
    size, step = len(image), max(1, int(sigma / 3))
    small = cv2.resize(image, (size // step, size // step), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), max(0.5, sigma / step)), (size, size))

"""The one decoder of untrusted images: every stage sees the same pixels of a file, or the same one-line refusal.

Two libraries disagree about rotated, 16-bit and transparent files without saying so, and some decode a picture of a
gigapixel from a hundred kilobytes. Everything in ``h2d`` and ``data_prep`` therefore reads pictures here.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from h2d.errors import DataError

MAX_PIXELS = 100_000_000
MIN_SIDE = 16
MAX_SIDE = 32_766
"""OpenCV warps nothing that is longer: MediaPipe would abort the process."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""Formats that are tried. Others stay closed: some of their readers start other programs."""
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_ORIENTATION = 0x0112


class ImageError(DataError):
    """A file is not a picture that can be used; ``reason`` says why without naming the file."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read {name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.name, self.reason)


def load_image(source: Path | bytes, name: str | None = None) -> np.ndarray:
    """Pixels of a picture as people see it: EXIF rotation applied, transparency on white, 16 bits scaled to 8.

    Args:
        source: a file, or the content of one.
        name: how messages call it; the path, when left out.

    Returns:
        uint8 ``(H, W, 3)`` RGB.

    Raises:
        ImageError: the file is missing, empty, truncated, of an unknown format, smaller than ``MIN_SIDE`` or larger
            than ``MAX_PIXELS``. The size is read from the header, before anything is decoded.
    """
    label = name or (str(source) if isinstance(source, Path) else "the picture")
    data = source if isinstance(source, bytes) else _read(source, label)
    try:
        with _without_warnings(), _open(data, label) as picture:
            return _decode(picture, data)
    except ImageError:
        raise
    except Exception as error:  # damaged files make Pillow raise SyntaxError, struct.error, EOFError, KeyError ...
        raise ImageError(label, _one_line(error)) from error


def original_extension(data: bytes) -> str | None:
    """``"jpg"`` or ``"png"`` if every reader sees these bytes as ``load_image`` does, else None (then re-encode)."""
    with _without_warnings(), _open(data, "the picture") as picture:
        if _is_rotated(picture) or picture.mode not in ("RGB", "L") or "transparency" in picture.info:
            return None
        return {"JPEG": "jpg", "PNG": "png"}.get(picture.format or "")


def encode_png(array: np.ndarray) -> bytes:
    """PNG of a uint8 array ``(H, W)`` or ``(H, W, 3)``; the same array gives the same bytes."""
    return _encode(array, "PNG", compress_level=6)


def encode_jpeg(array: np.ndarray, quality: int = 95) -> bytes:
    """JPEG of a uint8 array ``(H, W)`` or ``(H, W, 3)``; the same array gives the same bytes."""
    return _encode(array, "JPEG", quality=quality, subsampling=0)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """A damaged file is refused or it is not; what Pillow mutters about it would only fill the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(path: Path, label: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(label, error.strerror or type(error).__name__) from error


def _open(data: bytes, label: str) -> Image.Image:
    if not data:
        raise ImageError(label, "the file is empty")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(label, f"more than {MAX_PIXELS // 1_000_000} million pixels") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(label, f"not a picture ({', '.join(FORMATS)})") from error
    except Exception as error:
        raise ImageError(label, _one_line(error)) from error
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ImageError(label, f"more than {MAX_PIXELS // 1_000_000} million pixels")
    if max(width, height) > MAX_SIDE:
        raise ImageError(label, f"more than {MAX_SIDE} pixels wide or high ({width} x {height})")
    if min(width, height) < MIN_SIDE:
        raise ImageError(label, f"smaller than {MIN_SIDE} pixels ({width} x {height})")
    return picture


def _decode(picture: Image.Image, data: bytes) -> np.ndarray:
    """Pixels of an opened picture; those of an ordinary JPEG from libjpeg-turbo itself, which are the same ones."""
    if picture.format == "JPEG" and picture.mode == "RGB" and not _is_rotated(picture):
        with suppress(ValueError):  # it is strict: what it warns of is for Pillow to accept or refuse
            return simplejpeg.decode_jpeg(data, "RGB")
    return _to_rgb(ImageOps.exif_transpose(picture))


def _is_rotated(picture: Image.Image) -> bool:
    return bool(picture.getexif().get(_ORIENTATION, 1) != 1)


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = _to_eight_bits(np.asarray(picture), picture.mode)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(picture.convert("RGB"))


def _to_eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Grey of 16 bits (mode I;16 or I) or float (mode F, 0..1 or 0..255) as uint8."""
    numbers = np.nan_to_num(values.astype(np.float64))
    full = 65535.0 if mode != "F" else 1.0 if numbers.max(initial=0.0) <= 1.0 else 255.0
    scale = 255.0 / full
    return np.clip(np.rint(numbers * scale), 0, 255).astype(np.uint8)


def _encode(array: np.ndarray, kind: str, **options: int) -> bytes:
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise ValueError(f"array must be uint8 (H, W) or (H, W, 3), not {array.dtype} {array.shape}")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, kind, **options)
    return buffer.getvalue()


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:160] if text else type(error).__name__

from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from h2d.images import ImageError, encode_jpeg, encode_png, load_image, original_extension

ORIENTATION = 0x0112


def gradient(height: int = 24, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 40)], axis=2).astype(np.uint8)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(load_image(saved(Image.fromarray(gradient()), kind, **options)), gradient())


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}])
def test_a_jpeg_has_the_pixels_that_pillow_finds(options: dict[str, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (67, 45, 3), np.uint8)
    data = saved(Image.fromarray(noise), "JPEG", **options)
    assert np.array_equal(load_image(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL transpositions that give the stored picture
    upright = Image.fromarray(np.kron(np.uint8([[0, 80], [160, 240]]), np.ones((16, 24), np.uint8)))
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = saved(stored.convert("RGB"), "JPEG", exif=exif, quality=95)
    assert np.abs(load_image(data).astype(int) - np.asarray(upright.convert("RGB"))).max() < 8
    assert original_extension(data) == ("jpg" if orientation == 1 else None)


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    image = load_image(saved(Image.fromarray(values), "PNG"))
    assert np.abs(image[..., 1].astype(float) - values / 257).max() <= 0.51
    assert original_extension(saved(Image.fromarray(values), "PNG")) is None


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    picture = Image.fromarray(gradient()).convert(mode)
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    image = load_image(saved(picture, kind))
    assert image.shape == (24, 40, 3)
    assert image.dtype == np.uint8
    if mode == "CMYK":
        assert np.abs(image.astype(int) - gradient()).mean() < 12


def test_float_tiff() -> None:
    values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    assert np.abs(load_image(saved(Image.fromarray(values), "TIFF"))[..., 0] / 255 - values).max() < 0.003


def test_transparent_pixels_are_white_whatever_colour_they_hide() -> None:
    picture = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert (load_image(saved(picture, "PNG")) == 255).all()


def test_a_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = struct.pack(">I", 64) + b"IDAT" + b"\0" * 68
    with pytest.raises(ImageError, match=r"bomb\.png: more than 100 million pixels"):
        load_image(b"\x89PNG\r\n\x1a\n" + chunk + data, "bomb.png")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello" * 100, "not a picture"),
        (encode_png(np.zeros((8, 40), np.uint8)), r"smaller than 16 pixels \(40 x 8\)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "not a picture"),
    ],
)
def test_refusals_name_the_file_and_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "odd name.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"odd name.jpg: {reason}") as caught:
        load_image(path)
    assert "\n" not in caught.value.message


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        load_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="directory"):
        load_image(tmp_path)


def test_no_damage_gets_through_as_another_error() -> None:
    rng = np.random.default_rng(0)
    good = [saved(Image.fromarray(gradient(64, 64)), kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP", "BMP")]
    refused = 0
    for number in range(1500):
        data = bytearray(good[number % len(good)])
        if number % 3 == 0:
            data = data[: rng.integers(0, len(data))]
        for place in rng.integers(0, max(1, len(data)), 8):
            data[place % max(1, len(data)) : place + 1] = bytes([rng.integers(256)])
        try:
            assert load_image(bytes(data)).ndim == 3
        except ImageError:
            refused += 1
    assert 200 < refused < 1500


def test_encoders_are_deterministic_and_exact() -> None:
    assert np.array_equal(load_image(encode_png(gradient())), gradient())
    assert encode_jpeg(gradient()) == encode_jpeg(gradient().copy())
    assert original_extension(encode_jpeg(gradient())) == "jpg"
    with pytest.raises(ValueError, match="uint8"):
        encode_png(gradient().astype(np.float32))


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "too small")))
    assert (error.message, error.reason) == ("cannot read a.jpg: too small", "too small")

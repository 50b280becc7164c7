from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from h2d.data.schema import (
    SCHEMA_VERSION,
    decode_mask,
    decode_npy,
    decode_sample,
    encode_npy,
    encode_sample,
    hand_boxes,
    validate_key,
)
from h2d.errors import DataError
from h2d.images import encode_jpeg, encode_png
from h2d.skeleton import RIGHT_HAND

KEY = "folder/a-1"


def members(**changes: object) -> dict[str, object]:
    hands = np.zeros((40, 60), np.uint8)
    hands[10:20, 10:20] = 1
    pose = np.zeros((133, 3), np.float32)
    pose[RIGHT_HAND] = (15, 15, 2)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    meta = {"schema": SCHEMA_VERSION, "key": KEY, "size": [60, 40]}
    raw: dict[str, object] = {"__key__": KEY, "__url__": "train-000000.tar"}
    raw |= encode_sample(KEY, encode_png(image), "png", hands, pose, "a person", meta, hands * 255)
    return raw | changes


def test_a_sample_comes_back_as_it_was() -> None:
    raw = members()
    assert [name for name in raw if not name.startswith("_")] == [
        "png", "hands.png", "person.png", "pose.npy", "txt", "json",
    ]  # fmt: skip
    sample = decode_sample(raw)
    assert sample.key == KEY
    assert sample.image.shape == (40, 60, 3)
    assert sample.hands.sum() == 100
    assert sample.pose[RIGHT_HAND][0].tolist() == [15, 15, 2]
    assert (sample.caption, sample.meta["size"]) == ("a person", [60, 40])
    assert sample.person is not None


def test_the_person_is_optional_and_jpg_is_an_image_too() -> None:
    raw = members()
    del raw["person.png"], raw["png"]
    raw["jpg"] = encode_jpeg(np.zeros((40, 60, 3), np.uint8))
    assert decode_sample(raw).person is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"pose.npy": None}, r"pose\.npy is missing"),
        ({"png": None}, "jpg or png is missing"),
        ({"png": b"no picture"}, "cannot read its png"),
        ({"hands.png": encode_png(np.zeros((40, 59), np.uint8))}, "hands.png is 59 x 40, the picture 60 x 40"),
        ({"hands.png": encode_png(np.full((40, 60), 3, np.uint8))}, "values other than 0, 1 and 2"),
        ({"hands.png": encode_png(np.zeros((40, 60, 3), np.uint8))}, "grey PNG of 8 bits"),
        ({"pose.npy": encode_npy(np.zeros((133, 2), np.float32))}, r"float32 \(133, 2\), not float32 \(133, 3\)"),
        ({"pose.npy": encode_npy(np.full((133, 3), np.nan, np.float32))}, "not finite"),
        ({"json": b"{"}, "JSONDecodeError"),
        ({"json": json.dumps({"schema": 99, "key": KEY}).encode()}, "made for schema 99"),
        ({"json": json.dumps({"schema": 1, "key": "other"}).encode()}, "belongs to 'other'"),
    ],
)
def test_what_is_wrong_is_said_with_shard_and_key(change: dict, problem: str) -> None:
    raw = {name: value for name, value in members(**change).items() if value is not None}
    with pytest.raises(DataError, match=problem) as caught:
        decode_sample(raw)
    assert "sample folder/a-1 of train-000000.tar" in caught.value.message


def test_an_array_with_objects_in_it_is_never_unpickled() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        decode_npy(buffer.getvalue())


@pytest.mark.parametrize("key", ["a.b", "/a", "a/../b", "", "a b", "ä", "a//b", "a/", "x" * 151])
def test_keys_that_would_break_a_tar(key: str) -> None:
    with pytest.raises(DataError, match="cannot be the key"):
        validate_key(key)


def test_encoding_is_deterministic_and_strict() -> None:
    assert members() == members()
    with pytest.raises(ValueError, match="must be jpg or png"):
        encode_sample(KEY, b"", "gif", np.zeros((2, 2), np.uint8), np.zeros((133, 3)), "", {})
    with pytest.raises(ValueError, match="Out of range"):
        encode_sample(KEY, b"", "jpg", np.zeros((2, 2), np.uint8), np.zeros((133, 3)), "", {"score": float("nan")})


def test_hand_boxes_are_tight_and_leave_out_hands_that_are_not_there() -> None:
    pose = np.zeros((133, 3), np.float32)
    pose[RIGHT_HAND][:2] = (3, 4, 2)
    pose[RIGHT_HAND][1] = (10.126, 8, 1)
    pose[RIGHT_HAND][5] = (90, 90, 0)
    assert hand_boxes(pose) == {"right": [3, 4, 10.13, 8]}


def test_a_palette_png_is_no_mask() -> None:
    buffer = io.BytesIO()
    Image.new("P", (4, 4)).save(buffer, "PNG")
    with pytest.raises(DataError, match="mode P"):
        decode_mask(buffer.getvalue())

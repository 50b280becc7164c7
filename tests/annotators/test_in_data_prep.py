"""SAM and LLaVA as ``data_prep`` uses them: tiny models, chosen on the command line, from a photograph to labels."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.chunks import chunk_path, read_chunk, read_head
from data_prep.synthetic import Rendered
from h2d import weights
from h2d.annotators import hand_masks
from h2d.annotators.llava import INSTRUCTION
from h2d.data.schema import decode_mask
from h2d.images import encode_jpeg


@pytest.fixture
def photo(tmp_path: Path, two_hands: Rendered) -> list[str]:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.jpg").write_bytes(encode_jpeg(two_hands.image))
    return ["folder", f"root={tmp_path / 'root'}", f"out={tmp_path / 'out'}", "jobs=1"]


def only_sample(folder: Path) -> dict[str, bytes]:
    return next(iter(read_chunk(chunk_path(folder, 0)).values()))


def test_llava_captions(photo: list[str], tiny_llava: Path, tmp_path: Path) -> None:
    words = [*photo, "captions=llava", f"llava={tiny_llava}", "device=cpu"]
    for stage in ("index", "keypoints", "masks", "captions"):
        assert main([stage, *words]) == 0
    sample = only_sample(tmp_path / "out" / "captions")
    assert sample["txt"].decode().strip()
    assert INSTRUCTION in json.loads(sample["captions.json"])["made_by"]


def test_sam_masks(
    photo: list[str], tiny_sam_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_masks, "AREA_RANGE", (0, 1e9))
    words = [*photo, "masks=sam", f"sam_checkpoint={tiny_sam_checkpoint}", "device=cpu"]
    for stage in ("index", "keypoints", "masks"):
        assert main([stage, *words]) == 0
    sample = only_sample(tmp_path / "out" / "masks")
    facts = json.loads(sample["masks.json"])
    assert facts["made_by"] == "sam-vit_b float32"
    assert facts["scores"]["left"]["iou"] == pytest.approx(0.9)
    assert set(decode_mask(sample["hands.png"]).flat) == {0, 1, 2}
    assert "person.png" in sample


def test_sam_is_found_where_it_was_downloaded_to(
    photo: list[str], tiny_sam_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_masks, "AREA_RANGE", (0, 1e9))
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path / "weights"))
    (official,) = (file for file in weights.WEIGHTS if file.name == "sam-vit-b")
    tiny = replace(official, size=tiny_sam_checkpoint.stat().st_size)
    monkeypatch.setattr(weights, "WEIGHTS", (tiny,))
    tiny.place.parent.mkdir()
    shutil.copy(tiny_sam_checkpoint, tiny.place)
    words = [*photo, "masks=sam", "sam_model=vit_b", "device=cpu"]
    for stage in ("index", "keypoints", "masks"):
        assert main([stage, *words]) == 0
    assert only_sample(tmp_path / "out" / "masks")


def test_sam_loses_only_the_image_that_cannot_be_used(
    photo: list[str], two_hands: Rendered, tiny_sam_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_masks, "AREA_RANGE", (0, 1e9))
    for name, image in (("b", two_hands.image), ("c", two_hands.image[:, ::-1]), ("d", two_hands.image)):
        (tmp_path / "root" / f"{name}.jpg").write_bytes(encode_jpeg(image, 80 + ord(name) % 10))
    words = [*photo, "masks=sam", f"sam_checkpoint={tiny_sam_checkpoint}", "device=cpu", "sam_batch=3"]
    for stage in ("index", "keypoints"):
        assert main([stage, *words]) == 0
    (tmp_path / "root" / "b.jpg").write_bytes(encode_jpeg(two_hands.image, 50))
    assert main(["masks", *words]) == 0
    chunk = chunk_path(tmp_path / "out" / "masks", 0)
    assert {key.rpartition("/")[2][0] for key in read_chunk(chunk)} == {"a", "c", "d"}
    assert list(read_head(chunk).counts.reasons) == ["file changed since its keypoints were found"]


def test_a_checkpoint_that_is_none_stops_before_anything_is_written(
    photo: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"")
    assert main(["all", *photo, f"sam_checkpoint={weights}"]) == 2
    assert "cannot tell SAM's architecture" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""From raw pictures to shards with the real annotators, through the command that a user types."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from h2d.data.check import check
from h2d.data.schema import Sample
from h2d.data.shards import iter_samples, read_manifest
from h2d.images import load_image
from h2d.skeleton import HANDS

FAST = ("jobs=1", "chunk_size=8")


def samples(out: Path) -> dict[str, Sample]:
    found = {}
    for split in read_manifest(out / "shards").counts:
        found |= {sample.key: sample for sample in iter_samples(out / "shards", split)}
    return found


def shard_bytes(out: Path) -> dict[str, bytes]:
    """Everything in the shards except the commit, which may change while tests run."""
    manifest = json.loads((out / "shards" / "manifest.json").read_bytes())
    tars = {path.name: path.read_bytes() for path in (out / "shards").glob("*.tar")}
    return tars | {"manifest.json": json.dumps(manifest | {"commit": None}).encode()}


def counts(out: Path, stage: str) -> dict[str, str]:
    lines = (out / stage / "rejected.jsonl").read_text().splitlines()
    return {row["image"]: row["reason"] for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def prepared(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    assert main(["all", "synthetic", f"root={people}", f"out={out}", *FAST]) == 0
    return out


def test_synthetic_people_become_samples(prepared: Path, people: Path) -> None:
    found = samples(prepared)
    manifest = read_manifest(prepared / "shards")
    lost = sum(sum(reasons.values()) for reasons in manifest.rejected.values())
    assert len(found) + lost == 9
    assert len(found) >= 6
    assert check(prepared / "shards") == []
    for sample in found.values():
        picture = people / sample.meta["gesture"] / f"{sample.key.removeprefix('synthetic/')}.jpg"
        assert np.array_equal(sample.image, load_image(picture))
        assert sample.caption.split()[1] in ("man", "woman", "bald")
        assert "hand" in sample.caption
        assert sample.meta["made_by"]["hands"] == "exact"
        assert sample.meta["made_by"]["pose"].startswith("mediapipe-")
        assert sample.meta["scores"]["mask_pixels"] >= 400
        assert sample.person is not None


def test_a_second_run_does_nothing_and_a_fresh_one_gives_the_same_bytes(
    prepared: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*.tar")}
    assert main(["all", "synthetic", f"root={people}", f"out={prepared}", *FAST]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert all("read 9 = written" in line and line.endswith("nothing to do") for line in lines[:6])
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*.tar")} == before
    assert main(["all", "synthetic", f"root={people}", f"out={tmp_path}", "jobs=2", "chunk_size=8"]) == 0
    assert shard_bytes(tmp_path) == shard_bytes(prepared)


def test_shards_of_another_size_hold_the_same_samples(prepared: Path, people: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "shards")
    shutil.rmtree(tmp_path / "copy" / "pack")
    assert main(["pack", "synthetic", f"root={people}", f"out={tmp_path / 'copy'}", *FAST, "shard_size=2"]) == 0
    manifest = read_manifest(tmp_path / "copy" / "shards")
    assert max(shard.count for shard in manifest.shards) == 2
    assert samples(tmp_path / "copy").keys() == samples(prepared).keys()


def test_exact_keypoints_keep_everybody(people: Path, tmp_path: Path) -> None:
    assert main(["all", "synthetic", f"root={people}", f"out={tmp_path}", *FAST, "keypoints=exact"]) == 0
    found = samples(tmp_path)
    assert len(found) == 9
    assert {sample.meta["made_by"]["pose"] for sample in found.values()} == {"exact"}


def test_a_part_is_taken_and_listed(people: Path, tmp_path: Path) -> None:
    words = ["all", "synthetic", f"root={people}", *FAST, "keypoints=exact"]
    assert main([*words, f"out={tmp_path / 'part'}", "take_train=3", "ablation=1"]) == 0
    manifest = read_manifest(tmp_path / "part" / "shards")
    gestures = json.loads((tmp_path / "part" / "index" / "gestures.json").read_bytes())
    spare = sum(gestures["train"].values()) - 3
    assert manifest.counts["train"] == 3
    assert manifest.rejected["pack"] == {"not taken": spare}
    found = samples(tmp_path / "part")
    test = [key for key, sample in found.items() if sample.meta["split"] == "test"]
    assert (tmp_path / "part" / "shards" / "test.txt").read_text().split() == test
    assert (tmp_path / "part" / "shards" / "ablation.txt").read_text().split() == test[:1]
    listed = tmp_path / "ids.txt"
    listed.write_text("".join(f"{key}\n" for key in [*list(found)[:2], "synthetic/unknown"]))
    assert main([*words, f"out={tmp_path / 'listed'}", f"ids={listed}"]) == 0
    assert samples(tmp_path / "listed").keys() == set(list(found)[:2])
    assert counts(tmp_path / "listed", "index") == {"": "in ids= but not in the data set"}
    assert check(tmp_path / "listed" / "shards") == []


def test_jobs_of_an_array_and_the_last_one_packs(
    prepared: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["all", "synthetic", f"root={people}", f"out={tmp_path}", "jobs=1", "chunk_size=2"]
    assert main([*words, "slice=1/2"]) == 0
    assert "keypoints (share 1/2): read 4 = written 4" in capsys.readouterr().out
    assert main(["pack", *words[1:]]) == 2
    assert "filter is not finished" in capsys.readouterr().err
    assert main([*words, "slice=0/2"]) == 0
    assert "shards: " in capsys.readouterr().out
    assert samples(tmp_path).keys() == samples(prepared).keys()
    for tar in (tmp_path / "shards").glob("*.tar"):
        assert tar.read_bytes() == (prepared / "shards" / tar.name).read_bytes()


def jpeg(image: np.ndarray, mode: str = "RGB", orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 64) + b"IDAT" + b"\0" * 68


@pytest.fixture(scope="module")
def odd(people: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of one good photograph in many disguises and of everything that is no photograph; root and out."""
    root = tmp_path_factory.mktemp("odd")
    good = max(samples(prepared).values(), key=lambda s: s.meta["scores"]["mask_pixels"]).image
    data = jpeg(good)
    grey16 = Image.fromarray(load_image(data).mean(axis=2).astype(np.uint16) * 257)
    buffer = io.BytesIO()
    grey16.save(buffer, "PNG")
    files = {
        "good.jpg": data,
        "the same/good.jpg": data,
        "b.v1 ü.JPEG": data,
        "rotated.jpg": jpeg(np.rot90(good), orientation=6),
        "cmyk.jpg": jpeg(good, "CMYK"),
        "grey16.png": buffer.getvalue(),
        "truncated.jpg": data[: len(data) // 2],
        "empty.jpg": b"",
        "text.png": b"this is not a picture",
        "bomb.png": bomb(),
        "small.png": jpeg(good[:8, :8]),
        "nobody.jpg": jpeg(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)),
        "crowd.jpg": jpeg(np.concatenate([good, good], axis=1)),
        "notes.txt": b"not looked at",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    out = tmp_path_factory.mktemp("odd-out")
    assert main(["all", "folder", f"root={root}", f"out={out}", *FAST]) == 0
    return root, out


def test_every_odd_file_is_accepted_or_rejected_with_its_reason(odd: tuple[Path, Path]) -> None:
    _, out = odd
    reasons = counts(out, "keypoints") | counts(out, "masks") | counts(out, "filter") | counts(out, "pack")
    assert {name: reason.partition(":")[0] for name, reason in reasons.items()} == {
        "truncated.jpg": "cannot read",
        "empty.jpg": "cannot read",
        "text.png": "cannot read",
        "bomb.png": "cannot read",
        "small.png": "cannot read",
        "nobody.jpg": "no person found",
        "crowd.jpg": "too many people",
    }
    assert "the file is empty" in reasons["empty.jpg"]
    assert "100 million pixels" in reasons["bomb.png"]
    assert len(samples(out)) == 6
    assert check(out / "shards") == []


def test_pixels_and_pose_agree_whatever_the_disguise(odd: tuple[Path, Path]) -> None:
    _, out = odd
    found = {key.split("/")[1].rsplit("-", 1)[0]: sample for key, sample in samples(out).items()}
    assert set(found) == {"good", "b_v1", "rotated", "cmyk", "grey16"}, "the two good.jpg share a name, not a key"
    upright = found["good"]
    for name, pixels, points in (("rotated", 3, 3), ("cmyk", 8, 6), ("grey16", 80, 25)):
        sample = found[name]
        assert sample.image.shape == upright.image.shape
        assert np.abs(sample.image.astype(int) - upright.image).mean() < pixels, name
        both = (sample.pose[HANDS, 2] > 0) & (upright.pose[HANDS, 2] > 0)
        assert np.linalg.norm(sample.pose[HANDS] - upright.pose[HANDS], axis=1)[both].mean() < points, name


def test_files_that_vanish_or_change_are_rejected(odd: tuple[Path, Path], tmp_path: Path) -> None:
    root, _ = odd
    shutil.copytree(root, tmp_path / "root")
    words = ["folder", f"root={tmp_path / 'root'}", f"out={tmp_path / 'out'}", *FAST]
    assert main(["index", *words]) == 0
    (tmp_path / "root" / "good.jpg").unlink()
    assert main(["keypoints", *words]) == 0
    assert counts(tmp_path / "out", "keypoints")["good.jpg"] == "cannot read: No such file or directory"
    (tmp_path / "root" / "cmyk.jpg").write_bytes(jpeg(load_image(tmp_path / "root" / "cmyk.jpg")[:200, :300]))
    (tmp_path / "root" / "rotated.jpg").unlink()
    for stage in ("masks", "captions", "filter"):
        assert main([stage, *words]) == 0
    changed = counts(tmp_path / "out", "masks")
    assert changed["cmyk.jpg"] == "file changed since its keypoints were found"
    assert changed["rotated.jpg"] == "cannot read: No such file or directory"
    (tmp_path / "root" / "grey16.png").unlink()
    assert main(["pack", *words]) == 0
    assert counts(tmp_path / "out", "pack") == {"grey16.png": "cannot read: No such file or directory"}
    assert len(samples(tmp_path / "out")) == 2
    assert check(tmp_path / "out" / "shards") == []


def test_nothing_to_pack_is_an_error_that_says_where_the_reasons_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.jpg").write_bytes(b"")
    assert main(["all", "folder", f"root={tmp_path / 'root'}", f"out={tmp_path / 'out'}", *FAST]) == 2
    output = capsys.readouterr()
    assert "error: nothing to pack: every image was rejected" in output.err
    assert "rejected.jsonl" in output.err
    assert "1 cannot read" in output.out


def test_real_photographs(photographs: Path, tmp_path: Path) -> None:
    assert main(["all", "folder", f"root={photographs}", f"out={tmp_path}", "jobs=1"]) == 0
    manifest = read_manifest(tmp_path / "shards")
    lost = sum(sum(reasons.values()) for reasons in manifest.rejected.values())
    assert sum(manifest.counts.values()) + lost == 40
    assert sum(manifest.counts.values()) >= 24
    assert check(tmp_path / "shards") == []

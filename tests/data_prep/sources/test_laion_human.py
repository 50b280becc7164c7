"""LAION-Human: where mapping and images may lie, entries that nobody checked, and poses that must never be opened."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import index
from data_prep.__main__ import main
from data_prep.job import Job
from data_prep.keys import parse
from data_prep.settings import Settings
from data_prep.sources import Row, get_source
from data_prep.sources.laion_human import LaionHumanOptions, one_line
from h2d.data.check import check
from h2d.data.schema import validate_key
from h2d.data.shards import iter_samples, read_manifest
from h2d.errors import ConfigError, DataError

MAPPING = "mapping_file_training.json"
HOME = "humansd_data/datasets/Laion/Aesthetics_Human"


def entry(number: int, above: str = "", **changes: Any) -> dict[str, Any]:
    name = f"{number // 100:05d}/{number:09d}"
    paths = {"img_path": f"{above}images/{name}.jpg", "pose_path": f"{above}pose/{name}.npz"}
    return paths | {"prompt": f"a person, number {number}"} | changes


def write(place: Path, mapping: Any, images: tuple[str, ...] = ()) -> Path:
    """The release in a folder, which is given back."""
    place.mkdir(parents=True, exist_ok=True)
    (place / MAPPING).write_text(mapping if isinstance(mapping, str) else json.dumps(mapping))
    for image in images:
        (place / image).parent.mkdir(parents=True, exist_ok=True)
        (place / image).touch()
    return place


def scan(root: Path, **options: Any) -> tuple[list[Row], Counter[str]]:
    entries = list(get_source("laion_human", LaionHumanOptions(**options)).scan(root))
    good = [entry for entry in entries if isinstance(entry, Row)]
    return good, Counter(entry[1] for entry in entries if isinstance(entry, tuple))


def test_an_entry_becomes_a_row(tmp_path: Path) -> None:
    mapping = {"x": entry(123), "y": entry(124, prompt=None), "z": entry(125)}
    root = write(tmp_path, mapping, ("images/00001/000000123.jpg", "images/00001/000000124.jpg"))
    rows, rejected = scan(root)
    image = "images/00001/000000123.jpg"
    assert rows[0] == Row("laion_human/00001_000000123", image, labels="a person, number 123")
    assert rejected == {"no image file": 1}
    source = get_source("laion_human")
    assert [source.labels(root, row).caption for row in rows] == ["a person, number 123", None]


@pytest.mark.parametrize("above", ["", "Aesthetics_Human/", "Laion/Aesthetics_Human/", f"{HOME}/"])
@pytest.mark.parametrize("root", ["", "humansd_data", "humansd_data/datasets", "humansd_data/datasets/Laion", HOME])
def test_images_are_found_from_every_folder(root: str, above: str, tmp_path: Path) -> None:
    write(tmp_path / HOME, {"a": entry(1, above)}, ("images/00000/000000001.jpg",))
    ((row,), rejected) = scan(tmp_path / root)
    assert rejected == {}
    assert row.image == str(Path(HOME, "images/00000/000000001.jpg").relative_to(root))
    assert (tmp_path / root / row.image).is_file()
    assert row.key == "laion_human/00000_000000001"


def test_any_part_of_the_images_is_enough(tmp_path: Path) -> None:
    mapping = {str(number): entry(number, "Laion/Aesthetics_Human/") for number in range(3000)}
    rows, rejected = scan(write(tmp_path, mapping, ("images/00027/000002705.jpg", "images/00000/other.jpg")))
    assert [row.image for row in rows] == ["images/00027/000002705.jpg"]
    assert rejected == {"no image file": 2999}


def test_the_options_are_keys_of_the_command() -> None:
    assert parse("laion_human", ["mapping=a.json", "base=b"]).options == LaionHumanOptions(Path("a.json"), Path("b"))


def test_mapping_and_base_can_be_named(tmp_path: Path) -> None:
    write(tmp_path / "lists", {"a": entry(1)})
    root = write(tmp_path / "root", {"b": entry(2)}, ("new/deep/images/00000/000000001.jpg",))
    named = {"mapping": tmp_path / "lists" / MAPPING, "base": root / "new" / "deep"}
    assert [row.image for row in scan(root, **named)[0]] == ["new/deep/images/00000/000000001.jpg"]
    write(tmp_path / "lists", {"a": entry(1, "Laion/Aesthetics_Human/")})
    assert [row.image for row in scan(root, **named)[0]] == ["new/deep/images/00000/000000001.jpg"]
    with pytest.raises(DataError, match=r"none of the images .* in root"):
        scan(root, **named | {"base": root})
    with pytest.raises(ConfigError, match=r"base=.*lists lies outside root="):
        scan(root, base=tmp_path / "lists")
    with pytest.raises(ConfigError, match=r"base=.*nowhere is not a folder"):
        scan(root, base=root / "nowhere")
    with pytest.raises(DataError, match=r"nowhere\.json does not exist"):
        scan(root, mapping=root / "nowhere.json")


def test_what_is_missing_is_named_with_its_origin(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{MAPPING} does not exist") as caught:
        scan(tmp_path)
    assert "github.com/IDEA-Research/HumanSD" in caught.value.hint
    root = write(tmp_path, {"a": entry(1)}, ("other/00000/000000001.jpg",))
    with pytest.raises(DataError, match=r"looked for images/00000/000000001\.jpg .* in root") as caught:
        scan(root)
    assert "img2dataset" in caught.value.hint
    assert "base=PATH" in caught.value.hint


@pytest.mark.parametrize("content", ["", "nope", "[1]", "{}", '{"a": {"img_path": "images/0', '{"a": "\xff"'])
def test_a_file_that_is_no_mapping_is_named(content: str, tmp_path: Path) -> None:
    write(tmp_path, "", ("images/00000/000000001.jpg",))
    (tmp_path / MAPPING).write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=f"{MAPPING} is not a mapping file"):
        scan(tmp_path)


def test_broken_entries_cost_only_themselves(tmp_path: Path) -> None:
    mapping = {"a": 3, "b": None, "c": {}, "d": entry(1, img_path=["x"]), "e": entry(1, img_path="")}
    mapping |= {"f": entry(1, prompt=["x"]), "\ud800": [], "g": entry(1), "h": entry(2, img_path="n\0l/\ud800")}
    root = write(tmp_path, mapping, ("images/00000/000000001.jpg",))
    found = index.scan(Job("laion_human", Settings(), root, tmp_path / "out"))
    assert [row.key for row in found.rows] == ["laion_human/00000_000000001"]
    reasons = Counter(row["reason"] for row in found.rejected)
    assert reasons == {"broken entry: no img_path": 6, "broken entry: prompt is not a text": 1, "no image file": 1}


@pytest.mark.parametrize("above", ["", "Laion/Aesthetics_Human/"])
def test_paths_that_leave_the_root_are_refused(above: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.jpg").touch()
    paths = ("../secret/a.jpg", f"{tmp_path}/secret/a.jpg", "images/../../secret/a.jpg")
    mapping = {path: entry(1, img_path=path) for path in paths} | {"good": entry(1, above)}
    root = write(tmp_path / "root", mapping, ("images/00000/000000001.jpg",))
    listed: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path)) or scandir(path))
    found = index.scan(Job("laion_human", Settings(), root, tmp_path / "out"))
    assert [row.key for row in found.rows] == ["laion_human/00000_000000001"]
    reasons = Counter(row["reason"] for row in found.rejected)
    # where folders above the root are left out, an absolute path is looked for below it
    assert reasons == ({"path leaves the root": 2, "no image file": 1} if above else {"path leaves the root": 3})
    assert all(root.resolve() in (path.resolve(), *path.resolve().parents) for path in listed)


def test_keys_are_safe_and_differ(tmp_path: Path) -> None:
    paths = ("images/00000/a b.jpg", "images/00000/a_b.jpg", "images/00000/a.b.jpg", f"images/00000/{'x' * 200}.jpg")
    root = write(tmp_path, {path: entry(1, img_path=path) for path in paths}, paths)
    rows, rejected = scan(root)
    assert len({validate_key(row.key) for row in rows}) == 4
    assert rejected == {}


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("a\nwoman\r\n  in\tred ", "a woman in red"),
        ("bell\x07 and\x1b[31m escape", "bell and [31m escape"),
        ("to the\u202eleft\u200b and\u2028back\ud800", "to the left and back"),
        ("été\u00a0à la plage", "été à la plage"),
        ("\n\x00", ""),
    ],
)
def test_prompts_become_one_line(prompt: str, caption: str) -> None:
    assert one_line(prompt) == caption


def test_a_large_mapping_is_not_held_in_memory(tmp_path: Path) -> None:
    long = "word " * 2000
    mapping = {str(number): entry(number, note=long) for number in range(2000)}
    root = write(tmp_path, mapping, ("images/00019/000001999.jpg",))
    size = (root / MAPPING).stat().st_size
    source = get_source("laion_human")
    tracemalloc.start()
    assert sum(1 for _ in source.scan(root)) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 4


class Payload:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_people_with_prompts_become_samples_and_poses_stay_closed(
    people: Path, train_one_step: Callable[[Path, str], None], tmp_path: Path
) -> None:
    sentinel, root, mapping = tmp_path / "it ran", tmp_path / HOME, {}
    for number, picture in enumerate(sorted(people.glob("*/*.jpg"))):
        mapping[str(number)] = entry(number, "Laion/Aesthetics_Human/", prompt=f"somebody\n in\x00 picture {number}")
        for folder, suffix, content in (("images", "jpg", picture.read_bytes()), ("pose", "npz", None)):
            path = root / folder / "00000" / f"{number:09d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                np.savez(path, arr_0=np.array([Payload(sentinel)], dtype=object))
            else:
                path.write_bytes(content)
    write(root, mapping)
    out = tmp_path / "out"
    assert main(["all", "laion_human", f"root={tmp_path}", f"out={out}", "jobs=1", "chunk_size=8"]) == 0
    assert not sentinel.exists()
    assert check(out / "shards") == []
    splits = read_manifest(out / "shards").counts
    found = [sample for split in splits for sample in iter_samples(out / "shards", split)]
    assert len(found) >= 6
    for sample in found:
        assert sample.caption == f"somebody in picture {int(sample.key[-9:])}"
        assert sample.meta["made_by"]["pose"].startswith("mediapipe-")
        assert sample.meta["made_by"]["caption"] == "laion_human"
    train_one_step(out / "shards", "outpaint")
    assert not sentinel.exists()
    with np.load(root / "pose" / "00000" / "000000000.npz", allow_pickle=True) as poses:
        poses["arr_0"]
    assert sentinel.exists(), "the payload is armed"

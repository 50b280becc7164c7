import json

import numpy as np
import pytest
import torch

from h2d.cli import main
from h2d.errors import ConfigError, DataError
from h2d.evaluation.beside import write_pictures
from h2d.evaluation.rows import Row, Store
from h2d.grids import GAP, HEADER
from h2d.images import load_image
from h2d.pictures import Picture

from .conftest import PEOPLE

SIZE, CELL = 64, 256
COLOURS = {"h2d": (200, 0, 0), "controlnet": (0, 200, 0)}


def evaluation(folder, method, seed=0, first=0):
    """A finished evaluation of three samples, whose pictures are darker from sample to sample."""
    place, numbers = folder / f"{method}-{seed}", range(first, first + 3)
    pose = np.full((133, 3), 2, np.float32)
    pose[:, :2] = np.random.default_rng(7).uniform(4, 60, (133, 2))
    images = [np.full((SIZE, SIZE, 3), COLOURS[method], np.uint8) // (1 + line + seed) for line in range(3)]
    nothing = torch.zeros(0, 1, 1, 1)
    pictures = [
        Picture(number, PEOPLE[0], {"result": image}, nothing, nothing)
        for number, image in zip(numbers, images, strict=True)
    ]
    rows = [Row(number, f"s/{number}", "", None, 0.5, pose) for number in numbers]
    Store(place).write(0, rows, pictures, ())
    protocol = {"method": method, "seed": seed, "split": "test", "image_size": SIZE}
    (place / "metrics.json").write_text(json.dumps({"n": 3, "dap": 0.5, "mpjpe": 0.25, "protocol": protocol}))
    return place


def cell(sheet, line, column):
    x, y = GAP + column * (CELL + GAP), HEADER + line * (CELL + GAP)
    return sheet[y : y + CELL, x : x + CELL]


def test_each_row_is_a_sample_and_each_column_a_system(tmp_path, capsys):
    folders = [evaluation(tmp_path, method, seed) for method in COLOURS for seed in (1, 0)]
    out = tmp_path / "pictures.png"
    assert main(["compare", "--seeds", *map(str, folders), "--pictures", str(out), "--count", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    sheet = load_image(out)
    assert sheet.shape == (HEADER + 2 * (CELL + GAP), GAP + 3 * (CELL + GAP), 3)
    for line in range(2):
        drawn = cell(sheet, line, 0)
        assert (drawn == 0).all(-1).mean() > 0.3, "the pose is drawn on black"
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10
        for column, colour in enumerate(COLOURS.values(), 1):
            assert (cell(sheet, line, column) == np.array(colour) // (1 + line)).all(), "of the lowest seed"


def test_without_seeds_every_evaluation_has_a_column_and_jpeg_is_known_by_its_name(tmp_path):
    folders = [evaluation(tmp_path, method) for method in COLOURS]
    out = tmp_path / "pictures.jpg"
    assert main(["compare", *map(str, folders), "--pictures", str(out)]) == 0
    assert out.read_bytes().startswith(b"\xff\xd8")
    assert load_image(out).shape[:2] == (HEADER + 3 * (CELL + GAP), GAP + 3 * (CELL + GAP)), "all three samples"


def test_what_cannot_be_shown_is_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "other").mkdir()
    one, other = evaluation(tmp_path, "h2d"), evaluation(tmp_path / "other", "controlnet", first=1)
    with pytest.raises(ConfigError, match=r"pictures\.gif: neither PNG nor JPEG"):
        write_pictures({"h2d": one}, tmp_path / "pictures.gif", 4)
    with pytest.raises(ConfigError, match="--count has to be at least 1, not 0"):
        write_pictures({"h2d": one}, tmp_path / "pictures.png", 0)
    with pytest.raises(DataError, match="hold rows of different samples"):
        write_pictures({"h2d": one, "controlnet": other}, tmp_path / "pictures.png", 4)
    (one / "samples" / "000001.png").write_bytes((one / "samples" / "000000.png").read_bytes())
    with pytest.raises(DataError, match=r"000001\.png is not the picture that was evaluated"):
        write_pictures({"h2d": one}, tmp_path / "pictures.png", 4)
    assert not list(tmp_path.glob("pictures*"))

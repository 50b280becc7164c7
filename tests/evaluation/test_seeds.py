import json

import pytest

from h2d.cli import main
from h2d.errors import DataError
from h2d.evaluation.seeds import compare_seeds


def write(folder, method, seed, dap, pipeline=None, **changes):
    place = folder / f"{method}-{pipeline}-{seed}"
    place.mkdir()
    protocol = {"method": method, "seed": seed, "split": "test", "image_size": 64, **changes}
    protocol |= {"pipeline": f"runs/{pipeline}"} if pipeline else {}
    (place / "metrics.json").write_text(json.dumps({"n": 3, "dap": dap, "mpjpe": 0.25, "protocol": protocol}))
    return place


def test_mean_and_deviation_of_each_system(tmp_path, capsys):
    folders = [write(tmp_path, "h2d", seed, dap, "main") for seed, dap in ((0, 0.5), (1, 0.6), (2, 0.7))]
    folders += [write(tmp_path, "controlnet", seed, None if seed == 1 else 0.1) for seed in range(3)]
    assert main(["compare", "--seeds", *map(str, folders)]) == 0
    assert capsys.readouterr().out.splitlines()[:6] == [
        "| method | dap | mpjpe |",
        "| --- | --- | --- |",
        "| h2d | 0.6000 ± 0.1000 | 0.2500 ± 0.0000 |",
        "| controlnet | - | 0.2500 ± 0.0000 |",
        "",
        "mean ± standard deviation over the seeds 0, 1, 2",
    ]


def test_pipelines_of_one_method_have_rows_of_their_own(tmp_path):
    folders = [write(tmp_path, "h2d", 0, 0.5, "main"), write(tmp_path, "h2d", 0, 0.4, "untuned")]
    lines = compare_seeds(folders).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| h2d, main", "| h2d, untuned"]
    assert "0.5000 |" in lines[2], "a single seed has no deviation"


def test_what_does_not_belong_together_is_refused(tmp_path):
    first = write(tmp_path, "h2d", 0, 0.5, "main")
    with pytest.raises(DataError, match="h2d runs/main comes twice with seed 0"):
        compare_seeds([first, first, write(tmp_path, "h2d", 1, 0.5, "main"), *_again(tmp_path, "other")])
    with pytest.raises(DataError, match="naive lacks seed 1"):
        compare_seeds([first, tmp_path / "h2d-main-1", write(tmp_path, "naive", 0, 0.5)])
    with pytest.raises(DataError, match="split is test and val"):
        compare_seeds([first, write(tmp_path, "bbox", 0, 0.5, split="val")])


def _again(folder, name):
    """Another folder of the first evaluation."""
    (folder / name).mkdir()
    return [write(folder / name, "h2d", 0, 0.5, "main")]

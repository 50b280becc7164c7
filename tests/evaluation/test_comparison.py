import json

import pytest

from h2d.errors import DataError
from h2d.evaluation.comparison import BESIDE, HIGHER, LOWER, Missing, compare, leaders, missing
from h2d.metrics.suite import MAIN_KEYS


def write(folder, name, **changes):
    (folder / name).mkdir()
    protocol = {
        "method": name,
        "split": "test",
        "content": "x",
        "image_size": 64,
        "seed": 0,
        **changes.pop("protocol", {}),
    }
    report = {"n": 3, "dap": 0.5, "mpjpe": 0.125, "fid": None, "protocol": protocol, **changes}
    (folder / name / "metrics.json").write_text(json.dumps(report))
    return folder / name


def test_a_row_for_each_evaluation_and_a_column_for_each_number_that_one_has(tmp_path):
    table = compare([write(tmp_path, "h2d"), write(tmp_path, "humansd", dap=None, protocol={"preset": "native"})])
    assert table.splitlines()[:4] == [
        "| method | n | dap | mpjpe |",
        "| --- | --- | --- | --- |",
        "| h2d | 3 | 0.5000 | 0.1250 |",
        "| humansd (native) | 3 | - | 0.1250 |",
    ]
    assert "split test" in table.splitlines()[-1]


def test_a_reason_is_told_once_with_the_numbers_and_the_systems_it_is_about(tmp_path):
    everyone = {"fid": "no weights", "kid": "no weights", "dar": "no main number"}
    folders = [
        write(tmp_path, "h2d", skipped=everyone),
        write(tmp_path, "bbox", skipped=everyone | {"dap": "no poses"}),
    ]
    assert [line for line in compare(folders).splitlines() if line.startswith("not measured")] == [
        "not measured: dap: no poses (bbox)",
        "not measured: fid, kid: no weights",
    ]
    reports = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert missing(reports) == [Missing(("dap",), "no poses", (1,)), Missing(("fid", "kid"), "no weights", (0, 1))]


def test_every_main_number_but_the_count_has_a_better_side():
    neither = ("n", "border_contrast", "border_contrast_real")
    assert sorted((*HIGHER, *LOWER, *neither)) == sorted((*MAIN_KEYS, *BESIDE))


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("dap", [0.5, None, 0.7], [False, False, True]),
        ("mpjpe", [0.5, 0.7, 0.5], [True, False, True]),
        ("mpjpe", [0.50001, 0.50002, 0.7], [True, True, False]),
        ("dap", [0.5, 0.5], [False, False]),
        ("dap", [0.5, None], [False, False]),
        ("n", [3, 4], [False, False]),
        ("unknown", [0.1, 0.2], [False, False]),
    ],
)
def test_the_best_values_are_those_that_look_the_best(name, values, best):
    assert leaders(name, values) == best


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 4}, "n is 3 and 4"),
        ({"protocol": {"seed": 1}}, "seed is 0 and 1"),
        ({"protocol": {"content": "y"}}, "content is x and y"),
    ],
)
def test_what_was_measured_differently_is_not_compared(changes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        compare([write(tmp_path, "a"), write(tmp_path, "b", **changes)])


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"protocol": 3}'])
def test_a_folder_without_a_report_is_named(text, tmp_path):
    (tmp_path / "a").mkdir()
    if text is not None:
        (tmp_path / "a" / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.json is no report of an evaluation"):
        compare([tmp_path / "a"])


def test_evaluations_of_one_system_are_told_apart(tmp_path):
    quick, slow = ({"method": "h2d", "sampling": {"num_inference_steps": steps, "eta": 0}} for steps in (20, 50))
    folders = [write(tmp_path, "a", protocol=quick), write(tmp_path, "b", protocol=slow), write(tmp_path, "real")]
    lines = compare(folders).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == [f"h2d {folders[0]}", f"h2d {folders[1]}", "real"]
    assert f"sampling.num_inference_steps: 20 (h2d {folders[0]}), 50 (h2d {folders[1]})" in lines
    assert not any(line.startswith("sampling.eta") for line in lines)


def test_the_same_data_in_another_place_is_compared(tmp_path):
    compare([write(tmp_path, "a", protocol={"shards": "x"}), write(tmp_path, "b", protocol={"shards": "/data/x"})])


def test_foregrounds_without_sam_have_columns(tmp_path):
    assert "| fid_fg_selfie |" in compare([write(tmp_path, "a", fid_fg_selfie=0.5)])

import json

import pytest

from h2d.comparison import compare
from h2d.errors import DataError


def write(folder, name, **changes):
    (folder / name).mkdir()
    protocol = {
        "method": name,
        "split": "test",
        "shards": "x",
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 4}, "n is 3 and 4"),
        ({"protocol": {"seed": 1}}, "seed is 0 and 1"),
        ({"protocol": {"shards": "y"}}, "shards is x and y"),
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

import json
from pathlib import Path
from typing import Any

import pytest

from h2d.config import compose
from h2d.errors import CheckpointError, ConfigError
from h2d.runs import choose_checkpoint, commit, newest_checkpoint, provenance, run_folder, step_of, write_records


def _checkpoints(folder: Path, *names: str) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    for name in names:
        (folder / "checkpoints" / name).touch()
    return folder


def test_newest_is_the_highest_step_and_no_leftover(tmp_path: Path) -> None:
    names = ("step-0000900.ckpt", "step-0010000.ckpt", ".step-0020000.ckpt.77.tmp", "step-x.ckpt", "other.ckpt")
    newest = newest_checkpoint(_checkpoints(tmp_path, *names))
    assert newest is not None
    assert (newest.name, step_of(newest)) == ("step-0010000.ckpt", 10_000)


def test_step_of_follows_the_link(tmp_path: Path) -> None:
    folder = _checkpoints(tmp_path, "step-0000007.ckpt") / "checkpoints"
    (folder / "last.ckpt").symlink_to("step-0000007.ckpt")
    assert step_of(folder / "last.ckpt") == 7


def test_choice(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", _checkpoints(tmp_path / "full", "step-0000002.ckpt")
    assert choose_checkpoint(empty, "auto") is choose_checkpoint(empty, "never") is None
    step_two = full / "checkpoints" / "step-0000002.ckpt"
    assert choose_checkpoint(full, "auto") == choose_checkpoint(empty, str(step_two)) == step_two
    assert choose_checkpoint(full, str(step_two)) == step_two
    older = _checkpoints(tmp_path / "older", "step-0000001.ckpt") / "checkpoints" / "step-0000001.ckpt"
    for resume in ("never", str(older)):
        with pytest.raises(ConfigError, match=r"step 2\)"):
            choose_checkpoint(full, resume)
    with pytest.raises(CheckpointError, match="nowhere"):
        choose_checkpoint(full, "nowhere.ckpt")


def test_records_add_up_and_survive_damage(tmp_path: Path) -> None:
    experiment = compose("hand", ["data.shards=x", f"run.dir={tmp_path}"]).experiment
    folder = run_folder(experiment)
    for resumed_from in (None, Path("a.ckpt")):
        write_records(folder, experiment, resumed_from)
    starts = json.loads((folder / "provenance.json").read_text())["starts"]
    assert [start["resumed_from"] for start in starts] == [None, "a.ckpt"]
    assert compose(str(folder / "config.yaml")).experiment == experiment
    (folder / "provenance.json").write_text("{broken")
    write_records(folder, experiment, None)
    assert len(json.loads((folder / "provenance.json").read_text())["starts"]) == 1


def test_provenance_is_plain_and_names_versions() -> None:
    record = provenance()
    assert json.loads(json.dumps(record)) == record
    assert record["versions"]["numpy"]


def test_commit_outside_a_checkout_is_unknown(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("h2d.runs.__file__", str(tmp_path / "h2d" / "runs.py"))
    assert commit() is None

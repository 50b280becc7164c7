import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from h2d.config import compose
from h2d.errors import CheckpointError, ConfigError
from h2d.runs import (
    checkpoints_of,
    choose_checkpoint,
    commit,
    prepare_folder,
    provenance,
    run_folder,
    step_of,
    write_records,
)
from h2d.seals import SealedFile


def _checkpoints(folder: Path, *names: str) -> Path:
    """A run with sealed files of these names; what is in them is for others to judge."""
    (folder / "checkpoints").mkdir(parents=True)
    for name in names:
        with open(folder / "checkpoints" / name, "wb") as file:
            sealed = SealedFile(file)
            with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
                archive.writestr("name", name)
            sealed.write(buffer.getvalue())
            sealed.seal()
    return folder


def _damage(*paths: Path) -> None:
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])


def test_newest_is_the_highest_step_and_no_leftover(tmp_path: Path) -> None:
    names = ("step-0000900.ckpt", "step-0010000.ckpt", ".step-0020000.ckpt.77.tmp", "step-x.ckpt", "other.ckpt")
    found = checkpoints_of(_checkpoints(tmp_path, *names))
    assert [(path.name, step_of(path)) for path in found] == [("step-0010000.ckpt", 10_000), ("step-0000900.ckpt", 900)]


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
    with pytest.raises(CheckpointError, match="nowhere") as caught:
        choose_checkpoint(full, "nowhere.ckpt")
    assert "--resume takes" in caught.value.hint
    with pytest.raises(CheckpointError, match="is an address, not a file"):
        choose_checkpoint(full, "http://host/step-0000002.ckpt")


def test_damaged_checkpoints_are_passed_over_and_named(tmp_path: Path, capsys: Any) -> None:
    folder = _checkpoints(tmp_path, *(f"step-000000{number}.ckpt" for number in (1, 2, 3)))
    one, two, three = (folder / "checkpoints" / f"step-000000{number}.ckpt" for number in (1, 2, 3))
    assert choose_checkpoint(folder, "auto") == three
    assert capsys.readouterr().err == ""
    _damage(three, two)
    assert choose_checkpoint(folder, "auto") == choose_checkpoint(folder, str(one)) == one
    warnings = capsys.readouterr().err.splitlines()
    assert [str(path) in line for path, line in zip((three, two) * 2, warnings, strict=True)] == [True] * 4
    assert all(f"going back to {one}" in line for line in warnings)


def test_a_damaged_file_by_name_is_an_error_with_the_newest_sound_one(tmp_path: Path) -> None:
    folder = _checkpoints(tmp_path, *(f"step-000000{number}.ckpt" for number in (1, 2, 3)))
    place = folder / "checkpoints"
    (place / "last.ckpt").symlink_to("step-0000003.ckpt")
    _damage(place / "step-0000003.ckpt")
    for name in ("step-0000003.ckpt", "last.ckpt"):
        with pytest.raises(CheckpointError, match=f"{name} is damaged") as caught:
            choose_checkpoint(folder, str(place / name))
        assert caught.value.hint == f"{place / 'step-0000002.ckpt'} is sound"


def test_a_run_with_damaged_checkpoints_only_is_not_begun_anew(tmp_path: Path) -> None:
    folder = _checkpoints(tmp_path, "step-0000001.ckpt", "step-0000002.ckpt")
    _damage(*(folder / "checkpoints").iterdir())
    with pytest.raises(CheckpointError, match=r"none of the 2 checkpoints of .*step-0000002\.ckpt is damaged"):
        choose_checkpoint(folder, "auto")
    with pytest.raises(ConfigError, match="already holds a run"):
        choose_checkpoint(folder, "never")


def test_preparing_clears_what_killed_writers_left_on_any_machine(tmp_path: Path) -> None:
    place = _checkpoints(tmp_path, "step-0000001.ckpt") / "checkpoints"
    for host in ("here", "elsewhere"):
        (place / f".step-0000002.ckpt.{host}-0123abcd.tmp").touch()
    prepare_folder(tmp_path)
    assert [path.name for path in place.iterdir()] == ["step-0000001.ckpt"]
    prepare_folder(tmp_path / "new" / "run")
    assert list((tmp_path / "new" / "run" / "checkpoints").iterdir()) == []


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

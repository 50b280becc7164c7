from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from data_prep import index, stage
from data_prep.chunks import chunk_path, read_chunk
from data_prep.job import Job
from data_prep.settings import Settings
from h2d.errors import ConfigError, DataError, SetupError

STUB = '''
"""A stage whose worker does to an image what the image's name says. Worker processes import it by this name."""
import os, time
from data_prep.stage import Stage, Worker
from h2d.errors import DataError, SetupError
from h2d.images import ImageError

class Stub(Worker):
    def __init__(self, job):
        self.job = job

    def prepare(self, item):
        name = item.row.image
        if "die" in name:
            os._exit(7)
        if "hang" in name:
            time.sleep(600)
        if "bug" in name:
            raise ZeroDivisionError("oh")
        if "reject" in name:
            raise DataError("not wanted: details")
        if "damaged" in name:
            raise ImageError(name, "truncated")
        if "stop" in name:
            raise SetupError("no weights")
        return {"out.txt": name.encode() + item.members.get("in.txt", b"")}

def build(job):
    return Stub(job)

def depends(job):
    return {"visibility": job.settings.visibility}

STAGE = Stage("stub", (), build, depends)
'''


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "stub_stage.py").write_text(STUB)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    sys.modules.pop("stub_stage", None)
    import stub_stage

    return stub_stage


def prepare(tmp_path: Path, names: list[str], **settings: object) -> Job:
    root = tmp_path / "photos"
    root.mkdir(exist_ok=True)
    for name in names:
        (root / f"{name}.jpg").touch()
    job = Job("folder", Settings(**{"jobs": 1, "chunk_size": 4} | settings), root, tmp_path / "out")
    index.run(job)
    return job


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def test_every_image_is_written_or_rejected_with_a_reason(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, [*names("good", 9), *names("reject", 3), "damaged", "bug"])
    counts, worked = stage.run(stub.STAGE, job)
    assert worked
    assert (counts.read, counts.written) == (14, 9)
    assert counts.reasons == {"not wanted": 3, "cannot read": 1, "unexpected ZeroDivisionError": 1}
    assert counts.line().startswith("read 14 = written 9 + rejected 5 (3 not wanted, 1 cannot read, ")
    keys = {row.key for row in job.rows()}
    written = {key for n in range(4) for key in read_chunk(chunk_path(job.folder("stub"), n))}
    rejected = {row["key"] for row in counts.rejected}
    assert written | rejected == keys
    assert not written & rejected


def test_finished_chunks_are_left_alone_and_missing_ones_made(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, names("good", 10))
    first, _ = stage.run(stub.STAGE, job)
    tars = {path.name: path.read_bytes() for path in job.folder("stub").glob("*.tar")}
    assert len(tars) == 3
    assert stage.run(stub.STAGE, job) == (first, False)
    chunk_path(job.folder("stub"), 1).unlink()
    assert stage.run(stub.STAGE, job) == (first, True)
    assert {path.name: path.read_bytes() for path in job.folder("stub").glob("*.tar")} == tars


def test_processes_give_the_same_bytes_as_none(tmp_path: Path, stub: ModuleType) -> None:
    results = []
    for jobs in (1, 2):
        (tmp_path / str(jobs)).mkdir()
        job = prepare(tmp_path / str(jobs), [*names("good", 9), "reject"], jobs=jobs)
        stage.run(stub.STAGE, job)
        results.append({path.name: path.read_bytes() for path in job.folder("stub").glob("*.tar")})
    assert results[0] == results[1]


def test_an_image_that_kills_its_process_is_the_only_one_lost(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, [*names("good", 10), "die1", "die2"], jobs=2)
    counts, _ = stage.run(stub.STAGE, job)
    assert (counts.read, counts.written) == (12, 10)
    assert counts.reasons == {"the worker process died on it": 2}
    assert {row["image"] for row in counts.rejected} == {"die1.jpg", "die2.jpg"}


def test_an_image_that_hangs_is_rejected(tmp_path: Path, stub: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(stub.__file__ or "")
    source.write_text(STUB + "\nimport data_prep.stage\ndata_prep.stage.SECONDS_PER_IMAGE = 1\n")
    job = prepare(tmp_path, [*names("good", 5), "hang"], jobs=2)
    counts, _ = stage.run(stub.STAGE, job)
    assert (counts.read, counts.written) == (6, 5)
    assert counts.rejected[0]["image"] == "hang.jpg"


def test_what_concerns_every_image_stops_the_stage(tmp_path: Path, stub: ModuleType) -> None:
    for jobs in (1, 2):
        (tmp_path / str(jobs)).mkdir()
        job = prepare(tmp_path / str(jobs), [*names("good", 6), "stop"], jobs=jobs)
        with pytest.raises(SetupError, match="no weights"):
            stage.run(stub.STAGE, job)


def test_results_of_other_settings_are_never_mixed(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, names("good", 3))
    stage.run(stub.STAGE, job)
    other = Job("folder", Settings(jobs=1, chunk_size=4, visibility=0.25), job.root, job.out)
    job.folder("shards").mkdir()
    with pytest.raises(ConfigError, match=r"stub was made with visibility=0\.5, not 0\.25") as caught:
        stage.run(stub.STAGE, other, ("masks", "shards"))
    assert caught.value.hint.endswith(f"rm -r {job.out}/stub {job.out}/shards"), "what is there"


def test_a_changed_index_invalidates_what_was_made_from_it(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, names("good", 3))
    stage.run(stub.STAGE, job)
    path = job.out / "index.jsonl"
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:2]) + b"\n")
    with pytest.raises(ConfigError, match="stub was made from another index"):
        stage.run(stub.STAGE, job)


def test_stages_in_the_wrong_order(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, names("good", 3))
    needy = stage.Stage("needy", ("stub",), stub.build, stub.depends)
    with pytest.raises(DataError, match="stub is not finished") as caught:
        stage.run(needy, job)
    assert "data_prep stub folder" in caught.value.hint
    stage.run(stub.STAGE, job)
    counts, _ = stage.run(needy, job)
    assert counts.written == 3
    (job.out / "index.jsonl").unlink()
    with pytest.raises(DataError, match=r"index\.jsonl does not exist"):
        stage.run(stub.STAGE, job)


def test_a_damaged_chunk_is_named(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, names("good", 3))
    stage.run(stub.STAGE, job)
    path = chunk_path(job.folder("stub"), 0)
    path.write_bytes(path.read_bytes()[:2048])
    with pytest.raises(DataError, match=r"000000\.tar"):
        read_chunk(path)


def test_one_command_at_a_time_and_leftovers_are_cleared(tmp_path: Path) -> None:
    job = prepare(tmp_path, ["a"])
    leftover = job.folder("keypoints") / ".000000.tar.123.tmp"
    mine = job.out / "mine" / ".letter.tmp"
    for path in (leftover, mine):
        path.parent.mkdir()
        path.touch()
    with job.lock():
        assert not leftover.exists()
        assert mine.exists()
        with pytest.raises(SetupError, match="another command is at work"), job.lock():
            pass
    with job.lock():
        pass


def test_the_record_is_plain_json(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, ["a"])
    stage.run(stub.STAGE, job)
    record = json.loads((job.folder("stub") / "stage.json").read_text())
    assert record["visibility"] == 0.5
    assert set(record) == {"visibility", "chunk_size", "of index"}

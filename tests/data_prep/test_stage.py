from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from data_prep import index, stage
from data_prep.chunks import chunk_path, read_chunk
from data_prep.job import Job
from data_prep.settings import Settings
from data_prep.worker import Stage
from h2d.errors import ConfigError, DataError, SetupError
from h2d.files import replacing
from h2d.locks import Claims
from h2d.slices import Slice

STUB = '''
"""A stage whose worker does to an image what the image's name says. Worker processes import it by this name."""
import os, time
from data_prep.worker import ImageWorker, Stage
from h2d.errors import DataError, SetupError
from h2d.images import ImageError

class Stub(ImageWorker):
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
        if "half" in name:
            raise ImportError("half of a package")  # Ctrl-C while it was loaded
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
    root.mkdir(parents=True, exist_ok=True)
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
        job = prepare(tmp_path / str(jobs), [*names("good", 9), "reject", "damaged"], jobs=jobs)
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
    source.write_text(STUB + "\nimport data_prep.worker\ndata_prep.worker.SECONDS_PER_IMAGE = 1\n")
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


def test_a_package_that_cannot_be_loaded_is_no_images_fault(tmp_path: Path, stub: ModuleType) -> None:
    with pytest.raises(ImportError, match="half of a package"):
        stage.run(stub.STAGE, prepare(tmp_path, [*names("good", 2), "half"]))


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
    needy = Stage("needy", ("stub",), stub.build, stub.depends)
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
    whole = path.read_bytes()
    for size in (2048, 600):  # in its samples, in its head
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"000000\.tar is damaged") as caught:
            read_chunk(path)
        assert caught.value.hint == f"rm {path}, and the same command makes it again"
    path.unlink()
    assert stage.run(stub.STAGE, job)[0].written == 3


def test_a_job_of_an_array_does_its_share(tmp_path: Path, stub: ModuleType) -> None:
    whole = prepare(tmp_path, [*names("good", 18), "reject"])
    shares = [replace(whole, settings=replace(whole.settings, slice=Slice(number, 3))) for number in range(3)]
    counts = [stage.run(stub.STAGE, share)[0].read for share in shares]
    assert counts == [8, 7, 4], "chunks 0 and 3, 1 and 4, 2 of five"
    assert stage.run(stub.STAGE, whole)[1] is False
    assert stage.stage_counts(whole, "stub").read == 19


def test_what_could_not_be_judged_is_tried_again_when_asked(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, [*names("good", 5), "reject", "damaged", "bug"])
    needy = Stage("needy", ("stub",), stub.build, stub.depends)
    first, _ = stage.run(stub.STAGE, job)
    stage.run(needy, job)
    assert (first.written, first.failed) == (5, 2), "a rejected image was judged"
    assert stage.run(stub.STAGE, job) == (first, False)
    Path(stub.__file__ or "").write_text(STUB.replace('"damaged" in name', "False").replace('"reject" in name', "0"))
    importlib.reload(stub)
    second, worked = stage.run(stub.STAGE, job, retry=True)
    assert worked
    assert (second.read, second.written, second.reasons) == (8, 6, {"unexpected ZeroDivisionError": 1, "not wanted": 1})
    later, worked = stage.run(needy, job)
    assert (worked, later.read, later.written) == (True, 6, 6), "the stage behind takes up the new one"
    mended = prepare(tmp_path / "mended", [*names("good", 5), "damaged"])
    stage.run(stub.STAGE, mended)
    whole = {key: value for n in range(2) for key, value in read_chunk(chunk_path(mended.folder("stub"), n)).items()}
    again = {key: value for n in range(2) for key, value in read_chunk(chunk_path(job.folder("stub"), n)).items()}
    assert again == whole


def test_leftovers_are_cleared_unless_somebody_is_at_work(tmp_path: Path) -> None:
    job = prepare(tmp_path, ["a"])
    (job.out / "keypoints").mkdir()
    with contextlib.suppress(KeyboardInterrupt), replacing(job.out / "keypoints" / "000000.tar") as leftover:
        raise KeyboardInterrupt
    mine = job.out / "keypoints" / ".letter.tmp"
    elsewhere = job.out / "keypoints" / ".000000.tar.another-machine-0123abcd.tmp"
    for path in (leftover, mine, elsewhere):
        path.touch()
    with job.sharing():
        assert not leftover.exists()
        assert mine.exists()
        assert elsewhere.exists(), "a machine that may still be at work"
        leftover.touch()
        with job.sharing():
            assert leftover.exists(), "it may be in use"
    with job.sharing():
        assert not leftover.exists()


def test_commands_share_the_chunks_out(tmp_path: Path) -> None:
    """A second process sees what the first one claims, and gets it when that one is gone."""
    code = (
        "import sys; from pathlib import Path; from h2d.locks import Claims\n"
        f"claims = Claims(Path({str(tmp_path)!r}))\n"
        "print([claims.take(n) for n in (0, 1)], flush=True); sys.stdin.readline()"
    )
    with Claims(tmp_path) as claims:
        assert claims.take(0)
        other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "[False, True]"
        assert not claims.take(1)
        other.kill()
        assert claims.take(1, wait=True)
        other.communicate()


def test_the_record_is_plain_json(tmp_path: Path, stub: ModuleType) -> None:
    job = prepare(tmp_path, ["a"])
    stage.run(stub.STAGE, job)
    record = json.loads((job.folder("stub") / "stage.json").read_text())
    assert record["visibility"] == 0.5
    assert set(record) == {"visibility", "chunk_size", "of index"}

"""Worker processes that die or hang: only the images that did it are lost, and each is named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data_prep import index, stage, worker
from data_prep.chunks import chunk_path, read_chunk
from data_prep.job import Job
from data_prep.settings import Settings
from h2d.annotators.pose import HolisticPose
from h2d.images import load_image

DEATHS = ("exit", "kill", "segv", "hang")
STUB = '''
"""A stage whose worker does to its own process what the image's name says."""
import ctypes, os, signal, time
import data_prep.worker
from data_prep.worker import ImageWorker, Stage

data_prep.worker.SECONDS_PER_IMAGE = 1

class Deadly(ImageWorker):
    def prepare(self, item):
        name = item.row.image
        if "exit" in name:
            os._exit(7)
        if "kill" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "segv" in name:
            ctypes.string_at(0)
        if "hang" in name:
            time.sleep(600)
        return {"out.txt": name.encode()}

def build(job):
    return Deadly()

def depends(job):
    return {}

STAGE = Stage("stub", (), build, depends)
'''


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "deadly_stage.py").write_text(STUB)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setattr(worker, "SECONDS_PER_IMAGE", worker.SECONDS_PER_IMAGE)  # the stub's import changes it here too
    sys.modules.pop("deadly_stage", None)
    import deadly_stage

    return deadly_stage


def test_only_the_deadly_images_are_lost(
    deadly: ModuleType, tmp_path: Path, long: bool, figures: Callable[[str], None]
) -> None:
    images, deaths = (1000, 100) if long else (60, 6)
    step = images // deaths
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(images):
        what = DEATHS[number // step % len(DEATHS)] if number % step == 0 else "good"
        (root / f"{what}{number}.jpg").touch()
    job = Job("folder", Settings(jobs=2, chunk_size=16), root, tmp_path / "out")
    index.run(job)
    counts, _ = stage.run(deadly.STAGE, job)
    assert (counts.read, counts.written) == (images, images - deaths)
    assert counts.reasons == {"the worker process died on it": deaths}
    lost = {row["image"] for row in counts.rejected}
    assert len(lost) == deaths
    assert lost == {path.name for path in root.iterdir() if not path.name.startswith("good")}
    chunks = [read_chunk(chunk_path(job.folder("stub"), number)) for number, _ in job.chunks()]
    written = [members["out.txt"].decode() for chunk in chunks for members in chunk.values()]
    assert len(written) == images - deaths
    assert {*written} | lost == {path.name for path in root.iterdir()}
    figures(f"{images} images, {deaths} deaths ({', '.join(DEATHS)}): {len(written)} written, {len(lost)} named")


def test_an_empty_array_does_not_poison_the_next_image(people: Path) -> None:
    """MediaPipe's graph fails for ever after an image without pixels."""
    person = load_image(sorted(people.glob("*/*.jpg"))[0])
    with HolisticPose() as fresh, HolisticPose() as finder:
        expected = fresh.detect(person)
        for shape in ((0, 0, 3), (0, 40, 3), (40, 0, 3)):
            with pytest.raises(ValueError, match="not empty"):
                finder.detect(np.zeros(shape, np.uint8))
            result = finder.detect(person)
            assert np.array_equal(result.pose, expected.pose)
            assert result.found == expected.found

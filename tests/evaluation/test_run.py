"""Whole evaluations, with a stand-in for MediaPipe: what they leave, what stops them, and how they go on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from itertools import chain, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from h2d.errors import ConfigError, DataError, SetupError
from h2d.evaluation import run
from h2d.evaluation.calibration import Copies
from h2d.evaluation.candidates import Candidate
from h2d.evaluation.run import run_evaluation
from h2d.evaluation.samplers import TwoStages
from h2d.metrics.image_suite import ImageNetworks
from h2d.metrics.suite import MAIN_KEYS

from .conftest import PEOPLE, Scattered, person, write_shards

MANY = [person(number) for number in range(14)]


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PoseDetector", Scattered)


def outcome(folder: Path) -> dict[str, Any]:
    """What has to be the same however often an evaluation was interrupted."""
    report = json.loads((folder / "metrics.json").read_text())
    del report["provenance"]
    pictures = {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}
    return {"report": report, "pictures": pictures, "table": (folder / "report.png").read_bytes()}


def test_the_command_leaves_numbers_and_pictures(
    experiment: Callable[..., Any], pipeline_folder: str, tmp_path: Path
) -> None:
    table = run_evaluation(experiment(), [Candidate("h2d", pipeline_folder)])
    folder = tmp_path / "runs" / "evaluate" / "h2d"
    assert "dap_hands" in table
    assert str(folder / "metrics.json") in table
    text = (folder / "metrics.json").read_text()
    report = json.loads(text)
    assert {*MAIN_KEYS, "protocol", "skipped", "provenance"} <= set(report)
    assert list(report) == sorted(report)
    assert "NaN" not in text
    assert report["n"] == 3
    assert report["detection_rate"] == 1.0
    assert 0 < report["mpjpe"] < 1
    assert report["kid"] is None
    assert report["skipped"]["kid"]
    protocol = report["protocol"]
    assert (protocol["split"], protocol["method"], protocol["batch_size"]) == ("test", "h2d", 8)
    assert protocol["metrics"]["oks_area"] == "person"
    assert "scheduler/scheduler_config.json" in protocol["files"]
    assert protocol["image_size"] == 32
    assert protocol["made_with"]["torch"]
    assert protocol["selection"]["samples"] == 3
    assert "protocol: split test" in table
    assert report["provenance"]["versions"]["torch"]
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [f"{i:06d}.png" for i in range(3)]
    assert (folder / "report.png").is_file()


def test_a_finished_evaluation_is_read_and_not_made_again(
    experiment: Callable[..., Any], pipeline_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Candidate("h2d", pipeline_folder)
    table = run_evaluation(experiment(), [ours])
    monkeypatch.setattr(Candidate, "load", None)
    assert run_evaluation(experiment(), [ours]) == table


def test_another_evaluation_in_the_same_folder_is_refused(experiment: Callable[..., Any]) -> None:
    run_evaluation(experiment(), [Candidate("real")])
    changes = {
        "sampling.guidance_scale=5": "sampling.guidance_scale is 7.5 there and 5.0 now",
        "metrics.ground_truth=redetected": "measured.metrics.ground_truth is annotation there and redetected now",
        "evaluation.samples=2": "data.selection.numbers is",
        "seed=1": "measured.seed is 0 there and 1 now",
    }
    for change, message in changes.items():
        with pytest.raises(ConfigError, match=message):
            run_evaluation(experiment(change), [Candidate("real")])
    same = experiment()
    write_shards(Path(same.data.shards), PEOPLE[::-1])
    with pytest.raises(ConfigError, match=r"data\.content is"):
        run_evaluation(same, [Candidate("real")])


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("evaluation.samples=4", "has 3 samples, not 4", "-1 for all"),
        ("evaluation.split=val", "no split 'val'", "split=test"),
    ],
)
def test_samples_that_are_not_there_are_an_error_before_anything_is_loaded(
    change: str, message: str, hint: str, experiment: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        run_evaluation(experiment(change), [Candidate("h2d", str(tmp_path / "no pipeline"))])
    assert hint in str(caught.value.hint)


def test_other_weights_behind_the_same_settings_are_refused(
    experiment: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compared system's weights are known only when it has been loaded."""
    protocol, folder = Copies.protocol, tmp_path / "runs" / "evaluate" / "real"
    run_evaluation(experiment(), [Candidate("real")])
    (folder / "metrics.json").unlink()
    (folder / "samples" / "000000.png").unlink()
    monkeypatch.setattr(Copies, "protocol", lambda self: protocol(self) | {"weights": {"unet": "other"}})
    with pytest.raises(ConfigError, match=r"other settings: weights\.unet is None there and other now"):
        run_evaluation(experiment(), [Candidate("real")])


def test_a_second_system_in_the_same_run_joins_the_page(experiment: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("real", "shifted"):
        run_evaluation(experiment(), [Candidate(name)])
    run_evaluation(experiment("evaluation.samples=2"), [Candidate("blurred")])
    page = (tmp_path / "runs" / "evaluate" / "index.html").read_text()
    assert ">blurred<" in page
    assert ">real<" not in page  # it was measured on other samples
    run_evaluation(experiment(), [Candidate("real")])
    page = (tmp_path / "runs" / "evaluate" / "index.html").read_text()
    assert ">real<" in page
    assert ">shifted<" in page
    assert ">blurred<" not in page


def test_pictures_have_the_size_of_the_pipeline(
    experiment: Callable[..., Any], pipeline_folder: str, tmp_path: Path
) -> None:
    """Whatever image_size says, so that photographs and rivals can stand beside them."""
    run_evaluation(experiment(), [Candidate("h2d", pipeline_folder), Candidate("real")])
    for name in ("h2d", "real"):
        report = json.loads((tmp_path / "runs" / "evaluate" / name / "metrics.json").read_text())
        assert report["protocol"]["image_size"] == 32


def test_an_altered_pipeline_does_not_go_on(
    experiment: Callable[..., Any], pipeline_folder: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(pipeline_folder, tmp_path / "pipeline")
    run_evaluation(experiment(), [Candidate("h2d", str(folder))])
    settings = folder / "scheduler" / "scheduler_config.json"
    settings.write_text(settings.read_text().replace("scaled_linear", "linear"))
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ConfigError, match=r"other settings: system\.files\.scheduler/scheduler_config\.json is"):
        run_evaluation(experiment(), [Candidate("h2d", str(folder))])


def test_networks_that_came_later_judge_what_is_there(
    experiment: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    absent = ["inception", "clip"]
    monkeypatch.setattr(ImageNetworks, "absent", staticmethod(lambda foreground: absent))
    run_evaluation(experiment(), [Candidate("real")])
    assert "not measured with: inception clip (`h2d doctor --fetch inception clip`)" in capsys.readouterr().err
    monkeypatch.setattr(Copies, "make", None)
    times = []
    for now in (["inception", "clip"], ["clip"], ["clip"], ["inception", "clip"]):
        absent[:] = now
        run_evaluation(experiment(), [Candidate("real")])
        times.append((tmp_path / "runs" / "evaluate" / "real" / "metrics.json").stat().st_mtime_ns)
    assert [one == other for one, other in pairwise(times)] == [False, True, True]


@pytest.mark.parametrize("text", [None, "", "{", "[1]"])
@pytest.mark.parametrize("name", ["settings.json", "protocol.json"])
def test_damaged_records_are_named(name: str, text: str | None, experiment: Callable[..., Any], tmp_path: Path) -> None:
    run_evaluation(experiment(), [Candidate("real")])
    folder = tmp_path / "runs" / "evaluate" / "real"
    (folder / "metrics.json").unlink()
    if text is None:
        (folder / name).unlink()
        run_evaluation(experiment(), [Candidate("real")])
        return
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=f"{folder / name} is damaged") as caught:
        run_evaluation(experiment(), [Candidate("real")])
    assert "evaluate again" in str(caught.value.hint)


def test_a_blank_line_in_a_record_is_no_other_setting(experiment: Callable[..., Any], tmp_path: Path) -> None:
    run_evaluation(experiment(), [Candidate("real")])
    with open(tmp_path / "runs" / "evaluate" / "real" / "settings.json", "a") as file:
        file.write("\n")
    run_evaluation(experiment(), [Candidate("real")])


def test_sam_that_is_asked_for_has_to_be_there(
    experiment: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path))
    with pytest.raises(SetupError, match="sam_vit_h"):
        run_evaluation(experiment("metrics.foreground=sam"), [Candidate("real")])


def test_several_systems_are_one_table(experiment: Callable[..., Any], pipeline_folder: str, tmp_path: Path) -> None:
    settings = experiment("evaluation.samples=2", "evaluation.batch_size=1", name="ablation")
    systems = [Candidate(name, pipeline_folder) for name in ("bbox", "naive", "sequential")]
    text = run_evaluation(settings, systems, ["humansd", "controlnet"])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == ["method", "---", "bbox", "naive", "sequential"]
    assert "left out, since weights are missing (see `h2d doctor`): humansd, controlnet" in text
    assert "metrics.oks_area person" in text
    assert "sampling.blending: bbox (bbox), naive (naive), sequential (sequential)" in text
    names = {path.name for path in (tmp_path / "runs" / "ablation").iterdir() if path.is_dir()}
    assert names == {"bbox", "naive", "sequential"}


def test_an_evaluation_that_broke_off_goes_on_and_ends_the_same(
    experiment: Callable[..., Any], pipeline_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, ours = experiment("evaluation.batch_size=4", people=MANY), [Candidate("h2d", pipeline_folder)]
    whole = experiment("evaluation.batch_size=4", "run.name=whole", people=MANY)
    run_evaluation(whole, ours)
    made: list[int] = []
    make = TwoStages.make

    def breaking(self: TwoStages, batch: Any) -> Any:
        if len(made) in (2, 5):
            made.append(-1)
            raise KeyboardInterrupt
        made.append(batch[0][0])
        return make(self, batch)

    monkeypatch.setattr(TwoStages, "make", breaking)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_evaluation(settings, ours)
        assert not (tmp_path / "runs" / "evaluate" / "h2d" / "metrics.json").exists()
    run_evaluation(settings, ours)
    assert made == [0, 4, -1, 4, 8, -1, 8, 12]  # the one whose poses were not yet there is made again
    runs = tmp_path / "runs"
    assert outcome(runs / "evaluate" / "h2d") == outcome(runs / "whole" / "h2d")


def test_a_picture_that_was_lost_or_changed_is_made_again(
    experiment: Callable[..., Any], pipeline_folder: str, tmp_path: Path
) -> None:
    ours, folder = [Candidate("h2d", pipeline_folder)], tmp_path / "runs" / "evaluate" / "h2d"
    run_evaluation(experiment(), ours)
    first = outcome(folder)
    (folder / "samples" / "000001.png").unlink()
    run_evaluation(experiment(), ours)
    assert outcome(folder) == first
    (folder / "rows" / "000000.jsonl").unlink()
    run_evaluation(experiment(), ours)
    assert outcome(folder) == first


class Pair:
    """The same command twice at the same time, which makes pictures slowly and writes down who makes which."""

    def __init__(self, settings: Any, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log, make = log, Copies.make

        def slow(sampler: Copies, batch: Any) -> Any:
            with open(log, "a") as file:
                file.write("".join(f"{os.getpid()} {number}\n" for number, _ in batch))
            time.sleep(0.3)
            return make(sampler, batch)

        monkeypatch.setattr(Copies, "make", slow)
        fork = get_context("fork")  # fresh interpreters would spend half a minute on imports
        self.texts = fork.Queue()
        self.processes = [fork.Process(target=self._run, args=(settings,)) for _ in range(2)]
        for process in self.processes:
            process.start()

    def _run(self, settings: Any) -> None:
        self.texts.put(run_evaluation(settings, [Candidate("real")]))

    def makers(self) -> dict[int, list[int]]:
        """Numbers of the samples by process."""
        makers: dict[int, list[int]] = {}
        for line in self.log.read_text().splitlines() if self.log.is_file() else ():
            maker, number = map(int, line.split())
            makers.setdefault(maker, []).append(number)
        return makers


def test_two_commands_at_once_make_every_sample_once(
    experiment: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(experiment("evaluation.batch_size=1", people=MANY), tmp_path / "log", monkeypatch)
    texts = [pair.texts.get(timeout=100) for _ in pair.processes]
    assert texts[0] == texts[1]
    assert "dap_hands" in texts[0]
    assert len(pair.makers()) == 2
    assert sorted(chain.from_iterable(pair.makers().values())) == list(range(14))


def test_the_share_of_a_killed_command_is_done_by_the_other(
    experiment: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(experiment("evaluation.batch_size=2", people=MANY), tmp_path / "log", monkeypatch)
    victim, survivor = pair.processes
    while victim.pid not in pair.makers():
        time.sleep(0.02)
        assert victim.is_alive()
    victim.kill()
    victim.join()
    assert "dap_hands" in pair.texts.get(timeout=100)
    assert json.loads((tmp_path / "runs" / "evaluate" / "real" / "metrics.json").read_text())["n"] == 14
    last = pair.makers()[victim.pid][-2:]
    assert set(last) <= set(pair.makers()[survivor.pid])


def test_without_a_detector_the_reason_is_given(experiment: Callable[..., Any], tmp_path: Path) -> None:
    run_evaluation(experiment("evaluation.detector=none"), [Candidate("real")])
    report = json.loads((tmp_path / "runs" / "evaluate" / "real" / "metrics.json").read_text())
    assert report["dap"] is None
    assert report["skipped"]["dap"] == "evaluation.detector=none"

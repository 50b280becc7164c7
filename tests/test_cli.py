import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from h2d import __version__
from h2d.cli import build_parser, main
from h2d.errors import DataError


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "h2d", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_help_answers_in_less_than_a_second() -> None:
    seconds = []
    for _ in range(3):  # the fastest counts: the machine may be busy
        start = time.monotonic()
        done = _run("--help")
        seconds.append(time.monotonic() - start)
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert min(seconds) < 1


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from h2d.cli import build_parser; build_parser().format_help();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'omegaconf', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "words",
    ["train", "sample", "evaluate", "export", "config", "config show", "config diff", "data", "data check", "doctor"],
)
def test_every_command_has_help(words: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*words.split(), "--help"])
    assert caught.value.code == 0
    assert f"usage: h2d {words}" in capsys.readouterr().out


def test_version(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"h2d {__version__}\n"


def test_wrong_input_is_one_error_a_line_a_hint_and_exit_code_2(capsys: Any) -> None:
    assert main(["train", "hand", "optim.lrr=1", "seeed=2", "data.shards=x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: command line: optim.lrr: there is no such key; did you mean optim.lr?")
    assert lines[1].startswith("error: command line: seeed")
    assert lines[2].startswith("  hint: ")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("train hand --lr=1", "unknown option --lr=1", "did you mean lr=VALUE?"),
        ("train hand --preset tiny", "unknown option --preset", "did you mean preset=VALUE?"),
        ("train hand tiny", "unexpected argument 'tiny'", "key=value"),
        ("export --hand a --outpaint b --out c seed=1", "unexpected argument 'seed=1'", ""),
        ("data preview x --count -1", "--count has to be at least 1", ""),
        ("train hnad", "no experiment 'hnad'", "did you mean hand?"),
        ("config explain nothing", "no setting starts with 'nothing'", "explain"),
    ],
)
def test_leftovers(words: str, message: str, hint: str, capsys: Any) -> None:
    assert main(words.split()) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert hint in errors


def test_pairs_may_come_before_and_after_options(capsys: Any) -> None:
    assert main(["config", "show", "preset=tiny", "hand"]) in (0, 2)
    assert main(["config", "show", "hand", "seed=3", "optim.lr=0.5"]) == 0
    output = capsys.readouterr().out
    assert "seed: 3  # command line" in output


def test_missing_arguments_are_argparse_errors_with_exit_code_2() -> None:
    for words in ([], ["train"], ["sample"], ["nonsense"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


def _failing(error: BaseException, monkeypatch: Any) -> None:
    def fail(options: Any) -> None:
        raise error

    monkeypatch.setattr("h2d.inspect_commands._config_list", fail)


def test_interrupt_is_130(monkeypatch: Any) -> None:
    _failing(KeyboardInterrupt(), monkeypatch)
    assert main(["config", "list"]) == 130


def test_a_closed_file_is_named(monkeypatch: Any, capsys: Any) -> None:
    _failing(PermissionError(13, "Permission denied", "/closed/file"), monkeypatch)
    assert main(["config", "list"]) == 2
    assert capsys.readouterr().err == "error: /closed/file: permission denied\n"


def test_debug_shows_the_traceback(monkeypatch: Any) -> None:
    _failing(DataError("gone"), monkeypatch)
    assert main(["config", "list"]) == 2
    for words in (["--debug", "config", "list"], ["config", "list", "--debug"]):
        with pytest.raises(DataError):
            main(words)


def test_a_bug_is_no_user_error(monkeypatch: Any) -> None:
    _failing(ZeroDivisionError(), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        main(["config", "list"])


def test_missing_shards_and_files_are_named(capsys: Any, tmp_path: Path) -> None:
    assert main(["train", "hand", "preset=tiny", f"data.shards={tmp_path}/none", f"run.dir={tmp_path}"]) == 2
    assert main(["data", "check", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count(f"error: {tmp_path}/none") == 2


def test_evaluate_prints_what_the_evaluation_returns(monkeypatch: Any, capsys: Any) -> None:
    import h2d.evaluation.candidates
    import h2d.evaluation.run

    seen: list[Any] = []
    monkeypatch.setattr(h2d.evaluation.run, "run_evaluation", lambda *inputs: seen.extend(inputs) or "n 3")
    assert main(["evaluate", "evaluate", "preset=tiny", "data.shards=x", "--pipeline", "p"]) == 0
    assert capsys.readouterr().out == "n 3\n"
    experiment, (ours,), left_out, limit = seen[:4]
    assert (experiment.task, experiment.data.shards) == ("evaluate", "x")
    assert (ours.pipeline, ours.method, limit) == ("p", "h2d", None)
    assert "humansd" in left_out
    assert main(["evaluate", "evaluate", "preset=tiny", "data.shards=x", "--method", "humansd"]) == 2
    assert "error: humansd: HumanSD (humansd) is not at" in capsys.readouterr().err
    monkeypatch.setattr(h2d.evaluation.candidates, "missing", lambda name, places: [])
    more = ["--method", "humansd", "--preset", "native", "--place", "humansd=/a=b.ckpt", "--limit", "3"]
    assert main(["evaluate", "evaluate", "preset=tiny", "data.shards=x", *more]) == 0
    (rival,) = seen[5]
    assert (rival.method, rival.preset, rival.places) == ("humansd", "native", {"humansd": "/a=b.ckpt"})
    assert seen[6:] == [[], 3]
    assert main(["evaluate", "evaluate", "preset=tiny", "data.shards=x", "--pipeline", "p", "--limit", "0"]) == 2
    assert "--limit 0 leaves no sample" in capsys.readouterr().err
    assert main(["evaluate", "evaluate", "preset=tiny", "data.shards=x", "--place", "humansd"]) == 2
    assert "--place humansd is not KEY=PATH" in capsys.readouterr().err


def test_doctor_lists_packages_and_devices(capsys: Any) -> None:
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    for word in ("torch", "mediapipe", "CPU cores", "tiny base"):
        assert word in output


def test_every_command_has_a_function() -> None:
    for line in ("train hand", "config list", "doctor", "data stats x"):
        assert callable(build_parser().parse_known_args(line.split())[0].command)

"""The rules of ``make slurm-check``, each on a script that breaks it; needs no Slurm."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

GOOD = """\
#!/usr/bin/env bash
#SBATCH --job-name=x
#SBATCH --ntasks-per-node=1
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/%x-%j.out
srun true
"""


@pytest.fixture(scope="module")
def check(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("slurm_check", repository / "slurm" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def complaints(check: ModuleType, tmp_path: Path) -> Callable[[str], list[str]]:
    (tmp_path / "logs").mkdir()

    def look(text: str) -> list[str]:
        path = tmp_path / "x.sbatch"
        path.write_bytes(text.encode())
        return list(check.problems(path, tmp_path))

    return look


def test_a_good_script(complaints: Callable[[str], list[str]]) -> None:
    assert complaints(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("srun true\n", "srun true\n#SBATCH --time=1\n", "9: comes after the first command"),
        ("--job-name=x", "--job-name=$NAME", "2: Slurm puts in no variables"),
        ("--job-name=x", "--partition=gpu", "2: --partition differs"),
        ("--job-name=x", "-A me", "2: --A differs"),
        ("#SBATCH --ntasks-per-node=1\n", "", "1: lacks --ntasks-per-node"),
        ("#SBATCH --open-mode=append\n", "", "5: --requeue without --open-mode=append"),
        ("%x-%j", "%x", "7: --output needs %j"),
        ("#SBATCH --requeue\n", "#SBATCH --requeue\n#SBATCH --array=0-3\n", "8: --output needs %A_%a"),
        ("logs/", "nowhere/", "7: the log folder nowhere is missing"),
        ("=USR1@300", "=B:USR1@300", "4: --signal=B: reaches this script only"),
        ("#SBATCH --signal=USR1@300\n", "", "1: has to ask for --requeue and --signal"),
        ("#!/usr/bin/env bash\n", "", "1: has to begin with #!"),
        ("\n", "\r\n", "1: has the line ends of Windows"),
    ],
)
def test_a_broken_script(old: str, new: str, complaint: str, complaints: Callable[[str], list[str]]) -> None:
    assert any(line.startswith(complaint) for line in complaints(GOOD.replace(old, new))), complaints(GOOD)


def test_shellcheck_and_bash_are_asked(check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, line, word in (("syntax", "if true\n", "syntax error"), ("unquoted", "cat $1\n", "SC2086")):
        path = tmp_path / f"{name}.sbatch"
        path.write_text(GOOD + line)
        assert check.main([str(path)]) == 1
        assert word in capsys.readouterr().out


def test_the_shipped_scripts(check: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([]) == 0, capsys.readouterr().out

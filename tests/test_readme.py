"""The README and the Makefile say what the commands accept."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from data_prep import __main__ as data_prep
from data_prep.keys import parse
from h2d.cli import build_parser
from h2d.config import compose
from h2d.experiment import Experiment, leaves

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
CLUSTER = (ROOT / "slurm" / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
DATA = re.findall(r"^(data-[a-z]+):", MAKEFILE, re.M)


def recipe(target: str) -> str:
    """The commands of a make target, as make prints them, with the variables that some targets want."""
    words = ["make", "-n", target, "ROOT=photographs", "OUT=data/mine", "JOBS=2", "ARGS="]  # not those of the tests
    printed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return printed.replace(".venv/bin/", "")


def commands(program: str) -> list[list[str]]:
    """The words of every command line of a program in the README's blocks and the Makefile's recipes."""
    text = "\n".join(re.findall(r"```\w*\n(.*?)```", README, re.S))
    text += "\n".join(recipe(target) for target in ("demo", "tiny-base", "tiny-model", "miniature", *DATA))
    lines = [line.strip() for line in text.replace("\\\n", "").replace("&&", "\n").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(program + " ")]


@pytest.mark.parametrize("words", commands("h2d"), ids=" ".join)
def test_h2d_commands_parse_and_compose(words: list[str]) -> None:
    options, overrides = build_parser().parse_known_args(words[1:])
    assert all("=" in word and not word.startswith("-") for word in overrides)
    if words[1] in ("train", "evaluate"):
        compose(options.experiment, [*overrides, *getattr(options, "overrides", [])])


@pytest.mark.parametrize("words", commands("python -m data_prep"), ids=" ".join)
def test_data_prep_commands_parse(words: list[str]) -> None:
    stage, dataset, *pairs = words[3:]
    assert stage in data_prep.STAGES
    parse(dataset, pairs)


def test_make_targets_named_in_the_readme_exist() -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", README + CLUSTER, re.M))
    defined = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.M))
    assert named <= defined
    assert {"demo", "test", "tensorboard"} <= named


def test_links_and_pictures_of_the_readme_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_keys_of_the_readme_exist() -> None:
    known = {key for key, _ in leaves(Experiment())}
    for key in re.findall(r"`([a-z]+(?:\.[a-z_]+)+)`", README):
        if not key.endswith((".json", ".png", ".npy", ".ckpt", ".jpg", ".yaml", ".txt", ".jsonl", ".html")):
            assert key in known, key


def test_sentences_of_the_paper_name_settings_and_tests_that_exist() -> None:
    rows = re.findall(r"^\| (?:III|IV)-[A-C] \|.*\|$", README, re.M)
    assert len(rows) > 15
    settings = {key for key, _ in leaves(Experiment())}
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        *_, keys, proofs, _ = (cell.strip() for cell in row.split("|"))
        assert set(re.findall(r"`([\w.]+)`", keys)) <= settings, row
        assert re.findall(r"`(test_\w+)`", proofs), row
        for name in re.findall(r"`(test_\w+)`", proofs):
            assert f"def {name}(" in tests, name

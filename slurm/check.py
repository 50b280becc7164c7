"""``make slurm-check``: are the job scripts in order? By bash, shellcheck, Slurm where it answers, and our own rules.

Slurm ignores a directive after the first command without a word, and a job whose log folder is missing fails without a
log; the rules are about such things.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SITE_OPTIONS = ("account", "partition", "qos", "constraint", "mail-user", "nodelist", "reservation", "A", "p", "q", "C")
"""What differs from cluster to cluster belongs into site.env."""


def problems(path: Path, root: Path) -> Iterator[str]:
    """What is wrong with the directives of a script, as ``line: complaint``.

    Args:
        path: the script.
        root: folder that jobs are submitted from.
    """
    text = path.read_bytes().decode()
    if "\r" in text:
        yield "1: has the line ends of Windows, which Slurm refuses"
    lines = text.splitlines()
    if not lines or not lines[0].startswith("#!"):
        yield "1: has to begin with #!"
    options: dict[str, tuple[int, str]] = {}
    commands = False
    for number, line in enumerate(lines, 1):
        directive = re.match(r"#SBATCH\s+--?([\w-]+)(?:[= ]\s*(\S+))?", line)
        if directive and commands:
            yield f"{number}: comes after the first command, and Slurm ignores it"
        elif directive:
            options[directive[1]] = (number, directive[2] or "")
            if "$" in line:
                yield f"{number}: Slurm puts in no variables"
        elif line.strip() and not line.startswith("#"):
            commands = True
    yield from (f"{options[name][0]}: --{name} differs from site to site" for name in SITE_OPTIONS if name in options)
    if "ntasks-per-node" not in options:
        yield "1: lacks --ntasks-per-node, which Lightning asks for"
    if "requeue" in options and options.get("open-mode", (0, ""))[1] != "append":
        yield f"{options['requeue'][0]}: --requeue without --open-mode=append loses the log of the start before"
    yield from _output(options, root)
    yield from _signal(options, text)


def _output(options: dict[str, tuple[int, str]], root: Path) -> Iterator[str]:
    number, output = options.get("output", (1, ""))
    name = "%A_%a" if "array" in options else "%j"
    if name not in output:
        yield f"{number}: --output needs {name}, or logs are overwritten"
    if not (root / output).parent.is_dir():
        yield f"{number}: the log folder {Path(output).parent} is missing, and jobs would fail without a word"


def _signal(options: dict[str, tuple[int, str]], text: str) -> Iterator[str]:
    number, value = options.get("signal", (1, ""))
    trapped = value.startswith("B:")
    if "requeue" not in options or not value:
        yield f"{number}: has to ask for --requeue and --signal, or a time limit ends the work"
    elif trapped and not re.search(r"^\s*(interruptible|trap) ", text, re.M):
        yield f"{number}: --signal=B: reaches this script only, which does not catch it"


def _said(*words: str | Path) -> Iterator[str]:
    """What a program complains about."""
    done = subprocess.run(words, capture_output=True, text=True, cwd=FOLDER.parent, check=False)
    if done.returncode:
        yield from (done.stdout + done.stderr).strip().splitlines()


def _slurm_answers() -> bool:
    if shutil.which("sbatch") is None:
        return False
    try:
        done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and "UP" in done.stdout


def main(arguments: list[str]) -> int:
    """Check the scripts named, or all of this folder; 1 when something is wrong."""
    jobs = [Path(name).resolve() for name in arguments] or sorted(FOLDER.glob("*.sbatch"))
    scripts = [*jobs, *([] if arguments else sorted(FOLDER.glob("*.sh")))]
    complaints = [f"{path}:{problem}" for path in jobs for problem in problems(path, FOLDER.parent)]
    for path in scripts:
        complaints += _said("bash", "-n", path)
    complaints += _said(Path(sys.executable).parent / "shellcheck", "--external-sources", *scripts)
    asked = _slurm_answers()
    if asked:
        complaints += [line for path in jobs for line in _said("sbatch", "--test-only", path)]
    print(*complaints, sep="\n" if complaints else "")
    what = "bash, shellcheck, the rules here" + (", sbatch --test-only" if asked else "; no Slurm answers here to ask")
    print(f"{len(scripts)} scripts, {len(complaints)} complaints ({what})")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What an evaluation leaves behind: numbers, the generated images and a table of pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from h2d.data.schema import Sample
from h2d.errors import ConfigError
from h2d.experiment import Experiment
from h2d.files import make_folder, write_atomic
from h2d.images import encode_png
from h2d.metrics.suite import MAIN_KEYS
from h2d.pictures import Picture
from h2d.runs import provenance, run_folder

if TYPE_CHECKING:
    from h2d.evaluation import Evaluation

NUMBERS = "metrics.json"
"""Written last: where it is, an evaluation is complete."""
REPORT_CELL = 256
"""Side of a picture in the report; tiny pictures of 128 pixels are doubled."""


class Report:
    """Writes the outcome of an evaluation into the run's folder, each file complete or not at all.

    Args:
        experiment: names the run, the split and the expected pictures.
        pipeline_folder: what is evaluated; None for a compared system.
        total: number of samples.

    Raises:
        ConfigError: the folder already holds an evaluation. What one that did not finish left is removed.
    """

    def __init__(self, experiment: Experiment, pipeline_folder: Path | None, total: int) -> None:
        self.experiment, self.pipeline_folder, self.total = experiment, pipeline_folder, total
        self.folder = run_folder(experiment)
        if (self.folder / NUMBERS).exists():
            raise ConfigError(f"{self.folder} already holds an evaluation", "choose another run.name=NAME")
        make_folder(self.folder)
        for leftover in (self.folder / "samples").glob("[0-9]" * 6 + ".png"):
            leftover.unlink()

    def progress(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples, with rate and remaining time on a terminal or as a line a minute in a log."""
        quiet = 0.1 if sys.stderr.isatty() else 60.0
        yield from tqdm(
            samples, total=self.total, unit="image", mininterval=quiet, maxinterval=max(10.0, quiet), delay=quiet
        )

    def add(self, picture: Picture) -> None:
        """Write a generated image as ``samples/INDEX.png``."""
        write_atomic(self.folder / "samples" / f"{picture.index:06d}.png", encode_png(picture.image))

    def write(self, evaluation: Evaluation) -> str:
        """Write ``report.png`` and, last, ``metrics.json``; returns the numbers as a table."""
        grid = evaluation.grid(REPORT_CELL)
        if grid is not None:
            write_atomic(self.folder / "report.png", encode_png(grid))
        content = evaluation.metrics | {
            "protocol": evaluation.protocol
            | {"split": self.experiment.evaluation.split, "shards": self.experiment.data.shards},
            "skipped": evaluation.skipped,
            "provenance": provenance() | {"pipeline": self.pipeline_folder and str(self.pipeline_folder)},
        }
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
        write_atomic(self.folder / NUMBERS, text.encode() + b"\n")
        return f"{table(evaluation)}\n{self.folder / NUMBERS}"


def table(evaluation: Evaluation) -> str:
    """Numbers of an evaluation, one on each line, with the reason beside those that are missing."""
    names = [*MAIN_KEYS, *(name for name in evaluation.metrics if name not in MAIN_KEYS)]
    width = max(map(len, names))
    lines = []
    for name in names:
        value = evaluation.metrics[name]
        shown = f"{value:.4f}" if isinstance(value, float) else "-" if value is None else f"{value:,}"
        reason = f"  ({evaluation.skipped[name]})" if value is None else ""
        lines.append(f"{name:<{width}}  {shown:>8}{reason}")
    return "\n".join(lines)

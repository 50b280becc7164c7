"""What a benchmark found, for people and for programs."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from h2d.bench.clock import Timing
from h2d.files import write_atomic
from h2d.runs import RECORDED, commit, versions


@dataclass(frozen=True)
class Row:
    """One way, its timing, and what follows from it by name; None where it does not apply."""

    name: str
    timing: Timing
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class Table:
    """What was measured in one call.

    Args:
        what: was timed: a step, a sample.
        unit: of the timings.
        rows: ways.
        notes: what belongs to the figures, a line each.
    """

    what: str
    unit: str
    rows: Sequence[Row]
    notes: Sequence[str]

    def __str__(self) -> str:
        """Columns, then the notes, then the machine."""
        names = list(dict.fromkeys(name for row in self.rows for name in row.figures))
        head = ["", f"{self.unit} a {self.what}", "quartiles", "n", *names]
        lines = [head]
        for row in self.rows:
            timing = row.timing
            figures = [_figure(row.figures.get(name)) for name in names]
            lines.append(
                [row.name, f"{timing.median:.4f}", f"{timing.low:.4f} {timing.high:.4f}", str(timing.count), *figures]
            )
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        text = [
            "  ".join(
                cell.ljust(width) if not column else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([*text, *self.notes, machine()])

    def write(self, path: Path) -> None:
        """The same as JSON, with versions and the commit."""
        content = asdict(self) | {"machine": machine(), "versions": versions(RECORDED), "commit": commit()}
        write_atomic(path, json.dumps(content, indent=2).encode() + b"\n")


def machine() -> str:
    """Processor or GPU, and threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"

"""Add to the model card of a pipeline folder how its parts were trained from scratch: steps, hours, losses, curves.

    python -m h2d.scratch_card --runs FOLDER --model FOLDER autoencoder text_to_image hand skeleton outpaint

The last command of ``make tiny-model``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from h2d.errors import DataError, H2DError

HEADING = "## Training"
CURVES = "training.png"
LOSS = "train/loss"


@dataclass(frozen=True)
class Curve:
    """The logged losses of a training.

    Args:
        name: of the run.
        steps: numbers of the logged steps, (N,), ascending.
        losses: at them, (N,).
        times: when they were logged, seconds, (N,).
    """

    name: str
    steps: np.ndarray
    losses: np.ndarray
    times: np.ndarray

    @property
    def hours(self) -> float:
        """At the median pace, as interruptions are not training; not a number for a single logged step."""
        if len(self.steps) < 2:
            return float("nan")
        pace = np.median(np.diff(self.times) / np.diff(self.steps))
        return float(pace * self.steps[-1] / 3600)

    def smooth(self, share: float = 0.05) -> np.ndarray:
        """Running mean of the losses over a share of the training."""
        width = max(1, round(share * len(self.losses)))
        sums = np.cumsum(np.concatenate([np.full(width, self.losses[0]), self.losses]))
        return (sums[width:] - sums[:-width]) / width


def read_curve(run: Path) -> Curve:
    """The losses that a training left for TensorBoard in its folder, of starts and resumptions together.

    Raises:
        DataError: there are none.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    if LOSS not in events.Tags()["scalars"]:
        raise DataError(f"{run} holds no logged loss", "train for trainer.log_every_n_steps steps or more")
    last = {event.step: event for event in events.Scalars(LOSS)}  # a resumed run repeats steps
    kept = [last[step] for step in sorted(last)]
    steps, losses, times = (np.array([getattr(e, key) for e in kept]) for key in ("step", "value", "wall_time"))
    return Curve(run.name, steps, losses, times)


def section(curves: Sequence[Curve]) -> str:
    """The card's words: a row for each training."""
    rows = [f"| `{c.name}` | {c.steps[-1]:,} | {c.hours:.1f} | {c.smooth()[-1]:.3f} |" for c in curves]
    return "\n".join(
        [
            HEADING,
            "",
            f"`make tiny-model`, on {processor()} with {os.cpu_count()} cores.",
            "Hours are the steps at the run's median pace, loss is the mean of the last twentieth.",
            "",
            "| training | steps | hours | loss |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            f"![losses]({CURVES})",
            "",
        ]
    )


def processor() -> str:
    """The name of the machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def draw(curves: Sequence[Curve], path: Path) -> None:
    """A panel for each training, losses and their running mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(curves), 2.6), layout="constrained")
    for panel, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        panel.plot(curve.steps, curve.losses, linewidth=0.5, alpha=0.5)
        panel.plot(curve.steps, curve.smooth())
        panel.set(title=curve.name, xlabel="step", yscale="log")
    figure.savefig(path, dpi=80, metadata={"Software": None})


def write(card: Path, curves: Sequence[Curve]) -> None:
    """Put the section into the card before its limits, in place of an older one, and the curves beside it."""
    before, limits, after = card.read_text().partition("## Limits")
    draw(curves, card.with_name(CURVES))
    card.write_text(before.partition(HEADING)[0] + section(curves) + "\n" + limits + after)


def main() -> int:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(prog="python -m h2d.scratch_card", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, metavar="FOLDER", help="where the runs lie")
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="the pipeline")
    parser.add_argument("names", nargs="+", metavar="RUN")
    options = parser.parse_args()
    try:
        curves = [read_curve(options.runs / name) for name in options.names]
    except H2DError as error:
        print(f"error: {error.message}\n  hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    write(options.model / "README.md", curves)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``peer_runner.py OUT WARM_UP SCRIPT option ...``: run a training script of diffusers as it is, and note its steps.

The time of a step is taken where the script moves its own progress bar, so the script needs no change. Seconds of the
steps after the warm-up go to OUT as a JSON list: of the wall with a GPU, of CPU time without. The script ends there.
"""

from __future__ import annotations

import json
import runpy
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import tqdm.auto

from h2d.bench.clock import clock_of

times: list[float] = []
now = clock_of(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


class Enough(BaseException):
    """All steps are taken."""


class Noting(tqdm.auto.tqdm):
    """A bar that notes when the one called "Steps" moves, and ends the script when it is full."""

    def update(self, n: float | None = 1) -> Any:
        """Move the bar."""
        moved = super().update(n)
        if str(getattr(self, "desc", "")).startswith("Steps"):
            times.append(now())
            if self.n >= self.total:  # nothing is to be saved, and no pictures are to be made
                raise Enough
        return moved


if __name__ == "__main__":
    out, warm_up, script = sys.argv[1:4]
    tqdm.auto.tqdm = Noting
    sys.argv = sys.argv[3:]
    with suppress(Enough):
        runpy.run_path(script, run_name="__main__")
    first = int(warm_up) - 1
    Path(out).write_text(json.dumps([b - a for a, b in zip(times[first:], times[first + 1 :], strict=False)]))

"""`h2d train` with faults: ``driver.py FAULTS RESUME TASK key=value ...``. Lightning starts it again for each rank.

Every rank notes in ``rank-R.json`` of the run's folder what it trained on and ended with. FAULTS is a JSON object:
``nan`` {"rank", "steps"} puts a NaN into the picture of that rank's batch in these steps; ``die`` or ``stall`` {"rank",
"step"} kills or stops that rank with a signal; ``slow`` {"rank", "seconds"} lets that rank take longer for each step.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from typing import Any

import lightning as L

import h2d.train
from h2d.cli import main
from h2d.runs import run_folder


def digest(pl_module: L.LightningModule) -> str:
    """Of all weights."""
    result = hashlib.sha256()
    for tensor in pl_module.state_dict().values():
        result.update(tensor.contiguous().numpy().tobytes())
    return result.hexdigest()


class Faults(L.Callback):
    """Injects the faults, and notes what happened."""

    def __init__(self, faults: dict[str, Any], experiment: Any) -> None:
        self.faults, self.folder = faults, run_folder(experiment)
        self.samples: dict[int, list[str]] = {}
        self.validated: list[str] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        self.samples.setdefault(step, []).extend(batch["key"])
        slow = self.faults.get("slow", {})
        if trainer.global_rank == slow.get("rank"):
            time.sleep(slow["seconds"])
        nan = self.faults.get("nan", {})
        if trainer.global_rank == nan.get("rank") and step in nan["steps"]:
            batch["image"][0, 0, 0, 0] = float("nan")
        for name, number in (("die", signal.SIGKILL), ("stall", signal.SIGSTOP)):
            fault = self.faults.get(name, {})
            if trainer.global_rank == fault.get("rank") and step == fault["step"]:
                os.kill(os.getpid(), number)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        if not trainer.sanity_checking:
            self.validated += batch["key"]

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        note = {
            "step": trainer.global_step,
            "weights": digest(pl_module),
            "samples": self.samples,
            "validated": self.validated,
            "skipped": pl_module.skipped,
            "validation": {name: float(value) for name, value in trainer.callback_metrics.items() if "val/" in name},
        }
        (self.folder / f"rank-{trainer.global_rank}.json").write_text(json.dumps(note))


if __name__ == "__main__":
    faults, resume, *words = sys.argv[1:]
    build = h2d.train.build_callbacks
    h2d.train.build_callbacks = lambda experiment: [*build(experiment), Faults(json.loads(faults), experiment)]
    sys.exit(main(["train", *words, "--resume", resume]))

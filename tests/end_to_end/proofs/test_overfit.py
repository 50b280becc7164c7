"""Both stages can learn one batch by heart, with the shipped base model: loss down by nine tenths, and a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_prep.__main__ import main as prepare
from h2d.config import compose
from h2d.data.datamodule import ShardDataModule
from h2d.grids import labelled_grid
from h2d.images import encode_png
from h2d.pictures import to_uint8
from h2d.randomness import generators
from h2d.tasks import build_task
from h2d.tasks.base import DiffusionTask

STEPS = 150


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a few rendered people."""
    folder = tmp_path_factory.mktemp("people")
    assert prepare(["generate", "synthetic", f"root={folder}/raw", "count=12", "seed=7", "jobs=1"]) == 0
    words = ["all", "synthetic", f"root={folder}/raw", f"out={folder}/data", "keypoints=exact", "jobs=1"]
    assert prepare(words) == 0
    return folder / "data" / "shards"


def one_batch(name: str, shards: Path) -> tuple[DiffusionTask, dict[str, Any], list[int]]:
    """The task, a batch, and the seeds of its noise and time steps, which stay the same in all steps."""
    settings = ["preset=tiny", f"data.shards={shards}", "optim.lr=1e-3", "data.batch_size=4", "data.num_workers=0"]
    experiment = compose(name, settings).experiment
    torch.manual_seed(0)
    task = build_task(experiment)
    task.train()
    data = ShardDataModule(experiment, task.factor)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    return task, batch, batch.pop("noise_seed").tolist()


def learn(task: DiffusionTask, batch: dict[str, Any], seeds: list[int], steps: int) -> list[float]:
    optimizer = task.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    losses = []
    for _ in range(steps):
        loss = task.losses(batch, generators(seeds)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def seen(task: DiffusionTask, batch: dict[str, Any], seeds: list[int]) -> dict[str, Tensor]:
    """What the network makes of the noisy batch: the clean picture that follows from its noise, and the mask."""
    calls: list[tuple[Any, Any]] = []
    network = task.networks[-1]
    hook = network.register_forward_hook(lambda module, inputs, output: calls.append((inputs, output)))
    with torch.no_grad():
        losses = task.losses(batch, generators(seeds))
    hook.remove()
    (noisy, timesteps, *_), output = calls[-1]
    alpha = task.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noise = output.noise if hasattr(output, "noise") else output.sample
    clean = (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    assert losses.timesteps is not None
    pictures = {"noisy": task.parts.decode(noisy), "picture": task.parts.decode(clean)}
    return pictures | ({"mask": output.mask.clamp(0, 1).repeat(1, 3, 1, 1) * 2 - 1} if hasattr(output, "mask") else {})


@pytest.mark.parametrize("name", ["hand", "outpaint"])
def test_one_batch_is_learnt_by_heart(
    name: str, only_long: None, people: Path, repository: Path, figures: Callable[[str], None]
) -> None:
    task, batch, seeds = one_batch(name, people)
    before = seen(task, batch, seeds)
    losses = learn(task, batch, seeds, STEPS)
    after = seen(task, batch, seeds)
    panels = {"noisy": before["noisy"]} | {
        f"{what}, step {step}": shown[what]
        for what in ("picture", "mask")
        if what in before
        for step, shown in ((0, before), (STEPS, after))
    }
    panels["truth"] = batch["image"]
    rows = [[to_uint8(panel[row] / 2 + 0.5) for panel in panels.values()] for row in range(4)]
    folder = repository / "runs" / "proof-train"
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"overfit-{name}.png"
    picture.write_bytes(encode_png(labelled_grid(rows, list(panels), 192)))
    figures(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f} in {STEPS} steps on one batch, see {picture}")
    assert losses[-1] <= 0.1 * losses[0]

"""What a run can be continued from: the same experiment on the same data, with every number in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from h2d.checkpoints import experiment_of, read_checkpoint
from h2d.config import Experiment
from h2d.data.shards import Manifest
from h2d.errors import CheckpointError
from h2d.experiment import leaves

MUST_MATCH = (
    "task",
    "seed",
    "image_size",
    "model",
    "optim.ema_decay",
    "trainer.global_batch",
    "sampling.blend",
)
"""Settings that a resumed run shares with its checkpoint.

Those of the model, the image and the average say what the numbers in the checkpoint are. The seed and the global batch
say which samples the next step takes and what noise they get: with others, some would be seen twice and some never.
All other settings may change between the two, such as devices, accumulation, precision and workers."""

_TRAINING = ("global_step", "loops", "optimizer_states", "lr_schedulers")
_AVERAGING = ("current_model_state", "averaging_state")


def check_resumable(path: Path, experiment: Experiment, manifest: Manifest) -> int:
    """Step of the checkpoint, when a run of ``experiment`` can continue from it.

    Raises:
        CheckpointError: naming the settings that differ, or the data do.
    """
    checkpoint = read_checkpoint(path, mapped=True)
    before, now = (dict(leaves(one)) for one in (experiment_of(checkpoint, path), experiment))
    changed = [key for key in now if key.startswith(MUST_MATCH) and before[key] != now[key]]
    if changed:
        values = ", ".join(f"{key} ({before[key]}, here {now[key]})" for key in changed)
        raise CheckpointError(
            f"{path} was trained with another {values}",
            "use the settings in the run's config.yaml, or start a new run with another run.name=NAME",
        )
    _check_data(path, checkpoint.get("made_by"), manifest)
    missing = [key for key in _TRAINING if key not in checkpoint]
    if missing:
        raise CheckpointError(f"{path} holds no training to go on with: {missing[0]} is missing")
    return int(checkpoint["global_step"])


def data_fingerprint(manifest: Manifest) -> str:
    """SHA-256 over the content of all shards in reading order, wherever they lie; a checkpoint keeps it."""
    shards = "".join(f"{shard.split} {shard.count} {shard.sha256}\n" for shard in manifest.shards)
    return hashlib.sha256(shards.encode()).hexdigest()


def _check_data(path: Path, made_by: Any, manifest: Manifest) -> None:
    before = made_by if isinstance(made_by, Mapping) else {}
    if before.get("shards") != data_fingerprint(manifest):
        counts = [
            ", ".join(f"{n} {source}" for source, n in data.items())
            for data in (before.get("data") or {}, manifest.sources)
        ]
        raise CheckpointError(
            f"{path} was trained on other data ({counts[0] or 'unknown'}; here {counts[1] or 'unknown'})",
            "the shards may lie elsewhere and have to be the same; else start a new run with another run.name=NAME",
        )


def check_state(checkpoint: Mapping[str, Any], task: nn.Module, averaged: bool, name: str) -> None:
    """Compare the numbers in a checkpoint with the networks that they are for: names, shapes, and that they are finite.

    Args:
        checkpoint: as Lightning wrote it.
        task: what will be trained, on any device.
        averaged: whether the run keeps averaged weights.
        name: of the checkpoint, for the message.

    Raises:
        CheckpointError: naming the first number that is wrong.
    """
    for complaint in _complaints(checkpoint, task, averaged):
        raise CheckpointError(f"{name}: {complaint}", "resume from another checkpoint, or start a new run")


def _complaints(checkpoint: Mapping[str, Any], task: nn.Module, averaged: bool) -> Iterator[str]:
    expected = task.state_dict()
    for part in ("state_dict", *_AVERAGING[: int(averaged)]):
        if not isinstance(checkpoint.get(part), Mapping):
            yield f"{part} is missing" + (", it was trained without an average" if averaged else "")
        else:
            yield from _compare(part, checkpoint[part], expected)
    if not averaged and _AVERAGING[0] in checkpoint:
        yield "its weights are averages, and this run keeps none"
    yield from _optimizer_complaints(checkpoint, task)


def _compare(part: str, found: Mapping[str, Any], expected: Mapping[str, Tensor]) -> Iterator[str]:
    yield from (f"{part} lacks {name}" for name in expected if name not in found)
    yield from (f"{part} has {name}, which no network here has" for name in found if name not in expected)
    for name, value in found.items():
        yield from _tensor_complaints(f"{part}: {name}", value, expected[name])


def _tensor_complaints(name: str, value: Any, like: Tensor) -> Iterator[str]:
    if not isinstance(value, Tensor):
        yield f"{name} is no tensor"
    elif value.shape != like.shape:
        yield f"{name} has the shape {tuple(value.shape)}, not {tuple(like.shape)}"
    elif not torch.isfinite(value).all():
        yield f"{name} is not finite"


def _optimizer_complaints(checkpoint: Mapping[str, Any], task: nn.Module) -> Iterator[str]:
    trained = [(name, parameter) for name, parameter in task.named_parameters() if parameter.requires_grad]
    try:
        (optimizer,) = checkpoint["optimizer_states"]
        count = sum(len(group["params"]) for group in optimizer["param_groups"])
        states = {trained[index]: dict(state) for index, state in optimizer["state"].items()}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        yield "the state of the optimizer does not fit the networks"
        return
    if count != len(trained):
        yield f"the optimizer has {count} parameters, not {len(trained)}"
    for (name, parameter), state in states.items():
        for kind, value in state.items():
            like = value if isinstance(value, Tensor) and not value.dim() else parameter  # the step is a single number
            yield from _tensor_complaints(f"optimizer: {kind} of {name}", value, like)

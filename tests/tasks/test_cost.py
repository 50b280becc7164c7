"""What a training step costs, in counts that no busy machine can blur."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from h2d.networks.controlnet import load_controlnet
from h2d.networks.hand_unet import HandUNet
from h2d.randomness import generators
from h2d.tasks.base import DiffusionTask
from h2d.tasks.hand import HandGenerator
from h2d.tasks.outpaint import Outpainter


@pytest.fixture(params=["hand", "outpaint"])
def task(request: pytest.FixtureRequest, experiment: Any, parts: Any) -> DiffusionTask:
    if request.param == "hand":
        return HandGenerator(experiment, HandUNet.from_unet(parts.unet, factor=4), parts.frozen, parts.scheduler)
    controlnet = load_controlnet(None, parts.unet, factor=4)
    return Outpainter(experiment, controlnet, parts.unet, parts.frozen, parts.scheduler)


class Calls(TorchDispatchMode):
    """Counts the operations that run, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_a_step_never_waits_for_the_device(task: DiffusionTask, batch: dict[str, Any]) -> None:
    """On a GPU each number that Python reads of a tensor would empty the queue of work."""
    rng = generators(range(4))
    with Calls() as calls:
        task.losses(batch, rng).loss.backward()
    assert calls.count["convolution"] > 10, "operations are seen"
    assert calls.count["_local_scalar_dense"] == calls.count["nonzero"] == 0


def test_frozen_networks_compute_no_gradients_of_their_weights(task: DiffusionTask, batch: dict[str, Any]) -> None:
    """Operations of the backward pass over those of the forward pass: two, if all weights were trained."""
    with FlopCounterMode(display=False) as forward:
        loss = task.losses(batch, generators(range(4))).loss
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    with FlopCounterMode(display=False) as encoding:
        task.parts.encode_text(batch["caption"])  # type: ignore[attr-defined]
        for name in ("image",) if isinstance(task, HandGenerator) else ("image", "canvas"):
            task.parts.encode_image(batch[name])  # type: ignore[attr-defined]
    networks = forward.get_total_flops() - encoding.get_total_flops()
    ratio = backward.get_total_flops() / networks
    least, most = (1.9, 2.0) if isinstance(task, HandGenerator) else (1.2, 1.5)
    assert least < ratio < most


def test_steps_are_compiled_once(task: DiffusionTask, batch: dict[str, Any]) -> None:
    graphs: list[Any] = []

    def seen(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    trained = task.networks[0]
    trained.compile(backend=seen)
    for step in range(3):
        task.losses(batch, generators(range(4 * step, 4 * step + 4))).loss.backward()
        if not step:
            first = len(graphs)
    assert len(graphs) == first > 0

"""How much memory of a device training takes, and how many operations, estimated before anything is loaded.

Weights are counted; activations are the tensors that a training step of the real networks keeps for its backward
pass, at their real sizes. What the estimate leaves out: the workspace of kernels, the memory that the allocator holds
back, and the encoding of images, which is over before the UNet runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from h2d.experiment import Experiment
from h2d.networks.outline import Outline, outline

WEIGHT = GRADIENT = AVERAGE = 4
MOMENTS = 8
"""Bytes of the two moments that AdamW keeps of each trained parameter."""
HALF = 2
AUTOCAST = 1.7
"""Activations under autocast, in sizes of those in half precision alone: norms keep float32 copies beside them."""


@dataclass(frozen=True)
class Memory:
    """Parameters of a task, and bytes on one device.

    Args:
        trained: parameters that the optimiser moves.
        frozen: parameters that only run.
        weights: bytes of both, with the half-precision copies and the average of the trained ones.
        gradients: bytes.
        optimizer: bytes of AdamW's moments.
        activations: bytes of one sample.
        samples: on the device at a time.
        step: floating-point operations of one sample in a step, without what gradient checkpointing computes twice.
        encoding: operations before it, which cached latents spare.
        missing: models whose weights are not on this machine.
    """

    trained: int
    frozen: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    samples: int
    step: int
    encoding: int
    missing: tuple[str, ...]

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return self.weights + self.gradients + self.optimizer + self.samples * self.activations

    def __str__(self) -> str:
        fixed = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer}
        parts = [f"{name} {_gigabytes(size)}" for name, size in fixed.items()]
        parts.append(f"activations {self.samples} x {_gigabytes(self.activations)}")
        return f"{_gigabytes(self.total)} GB a device, estimated: {' + '.join(parts)}"


def estimate(experiment: Experiment) -> Memory:
    """Memory of training on one device; neither weights nor the hub are touched.

    Raises:
        H2DError: see :func:`h2d.networks.outline.outline`.
    """
    with FakeTensorMode():
        networks = outline(experiment)
        settings = experiment.trainer
        encoding, step = operations(networks.encode), operations(networks.forward)
        activations = sum(saved_bytes(networks, settings.gradient_checkpointing))
    mixed = settings.precision != "32-true"
    trained, frozen = count(networks.trained), count(networks.frozen)
    each = WEIGHT + (HALF if mixed else 0) + (AVERAGE if experiment.optim.ema_decay is not None else 0)
    return Memory(
        trained=trained,
        frozen=frozen,
        weights=each * trained + (HALF if mixed else WEIGHT) * frozen,
        gradients=GRADIENT * trained,
        optimizer=MOMENTS * trained,
        activations=round(activations * AUTOCAST * HALF / WEIGHT) if mixed else activations,
        samples=experiment.micro_batch,
        step=step,
        encoding=encoding,
        missing=networks.missing,
    )


def count(networks: Iterable[nn.Module]) -> int:
    """Parameters."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def operations(compute: Callable[[], Any]) -> int:
    """Matrix products, convolutions and attentions of a function, and of its backward pass where it has one."""
    with FlopCounterMode(display=False) as counter:
        outputs = [leaf for leaf in tree_leaves(compute()) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if outputs:
            sum((output.sum() for output in outputs), torch.zeros(())).backward()
    return counter.get_total_flops()


def saved_bytes(networks: Outline, gradient_checkpointing: bool) -> tuple[int, int]:
    """Bytes that the backward pass of one sample needs, in the networks' own precision: kept, and computed again.

    With gradient checkpointing, the first are mostly the inputs of the regions that are computed again, and the second
    the activations of the largest region, which are there while its own backward pass runs.
    """
    everything = (*networks.trained, *networks.frozen)
    recorder = _Recorder(weight for network in everything for weight in network.parameters())
    for network in networks.trained if gradient_checkpointing else ():
        if getattr(network, "_supports_gradient_checkpointing", False):
            network.enable_gradient_checkpointing(recorder.region)  # type: ignore[operator]
    with recorder.into(recorder.kept):
        networks.forward()
    return sum(recorder.kept.values()), recorder.largest


class _Recorder:
    """Storages that autograd keeps, each counted once; the weights are there anyway."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.weights = {_storage(weight) for weight in weights}
        self.kept: dict[int, int] = {}
        self.largest = 0
        self.alive: list[Tensor] = []

    def into(self, kept: dict[int, int]) -> torch.autograd.graph.saved_tensors_hooks:
        """Record what the block saves."""

        def pack(tensor: Tensor) -> Tensor:
            self._keep(tensor, kept)
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)

    def region(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """Stands for torch's checkpoint: only the inputs stay."""
        for tensor in inputs:
            if isinstance(tensor, Tensor):
                self._keep(tensor, self.kept)
        inside: dict[int, int] = {}
        with self.into(inside):
            output = function(*inputs)
        self.largest = max(self.largest, sum(size for key, size in inside.items() if key not in self.kept))
        return output

    def _keep(self, tensor: Tensor, kept: dict[int, int]) -> None:
        if (key := _storage(tensor)) not in self.weights:
            kept[key] = tensor.untyped_storage().nbytes()
            self.alive.append(tensor)  # or the next storage could be taken for this one


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f}" if size < 1e9 else f"{size / 1e9:.1f}"

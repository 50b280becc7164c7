import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from h2d import memory
from h2d.config import compose
from h2d.networks.outline import outline

GIB = 2**30
MASK_HEAD = 2 * (2 * (128 * 128**2 + 64 * 256**2 + 32 * 512**2) + 1024**2) / GIB
"""GiB a sample in half precision: three maps before and after SiLU, and the one that is pooled."""


def experiment(task: str, *settings: str):
    return compose(task, ["data.shards=none", *settings]).experiment


def really_saved(networks, gradient_checkpointing: bool) -> int:
    """Bytes of what autograd keeps of a real forward pass, by torch's own hooks and its own checkpointing."""
    weights = {w.data_ptr() for network in (*networks.trained, *networks.frozen) for w in network.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def again(function, *inputs):
        return checkpoint(function, *inputs, use_reentrant=False)

    if gradient_checkpointing:
        networks.trained[0].enable_gradient_checkpointing(again)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = networks.forward()
    total = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    del output  # until here, its graph kept every storage in place
    return total


@pytest.mark.parametrize("task", ["hand", "outpaint", "tiny_autoencoder", "tiny_text_to_image"])
def test_activations_are_what_autograd_keeps(task):
    tiny = experiment(task, *([] if "tiny" in task else ["preset=tiny"]), "image_size=64")
    with FakeTensorMode():
        estimated = memory.saved_bytes(outline(tiny), gradient_checkpointing=False)
    assert estimated == (really_saved(outline(tiny), gradient_checkpointing=False), 0)


@pytest.mark.parametrize("task", ["hand", "outpaint"])
def test_checkpointed_activations_are_what_torchs_checkpoint_keeps(task):
    tiny = experiment(task, "preset=tiny", "image_size=64")
    with FakeTensorMode():
        whole, none = memory.saved_bytes(outline(tiny), gradient_checkpointing=False)
        kept, region = memory.saved_bytes(outline(tiny), gradient_checkpointing=True)
    assert kept == really_saved(outline(tiny), gradient_checkpointing=True)
    assert none == 0 < region < whole
    assert kept + region < whole


def test_every_byte_of_the_state_is_counted_by_hand():
    settings = ("preset=tiny", "data.batch_size=4", "trainer.global_batch=4")
    plain = memory.estimate(experiment("hand", *settings))
    assert plain.weights == 4 * (plain.trained + plain.frozen)
    assert (plain.gradients, plain.optimizer) == (4 * plain.trained, 8 * plain.trained)
    assert plain.total == plain.weights + plain.gradients + plain.optimizer + 4 * plain.activations
    mixed = memory.estimate(experiment("hand", *settings, "trainer.precision=bf16-mixed", "optim.ema_decay=0.9"))
    assert mixed.weights == (4 + 2 + 4) * plain.trained + 2 * plain.frozen
    assert mixed.activations == round(plain.activations * 0.5 * 1.7)


def test_counts_are_those_of_the_loaded_networks():
    from h2d.networks.base import load_frozen, load_unet
    from h2d.networks.hand_unet import HandUNet

    parts, unet = load_frozen("tiny"), load_unet("tiny")
    own = memory.count([HandUNet.from_unet(unet, factor=4)])
    estimate = memory.estimate(experiment("hand", "preset=tiny"))
    assert (estimate.trained, estimate.frozen) == (own, memory.count([parts.vae, parts.text_encoder]))
    assert estimate.missing == ()


def test_stable_diffusion_is_estimated_without_its_weights():
    """GiB a sample in half precision and TFLOP, against counts of another program, whose mask head was another."""
    settings = ("trainer.precision=32-true", "model.base=someone/some-model")
    hand = memory.estimate(experiment("hand", *settings))
    assert hand.trained == 859_552_644 + 205_153
    assert hand.frozen == 83_653_863 + 123_060_480
    assert hand.missing == ("someone/some-model",)
    assert hand.activations / 2 / GIB == pytest.approx(0.872 + MASK_HEAD, rel=0.01)
    assert (hand.step / 1e12, hand.encoding / 1e12) == pytest.approx((2.450, 1.117 + 0.013), rel=0.02)
    outpaint = memory.estimate(experiment("outpaint", *settings))
    assert outpaint.trained == 361_279_264
    assert outpaint.activations / 2 / GIB == pytest.approx(0.846, rel=0.01)
    assert (outpaint.step / 1e12, outpaint.encoding / 1e12) == pytest.approx((2.265, 2 * 1.117 + 0.013), rel=0.03)


def test_stable_diffusion_with_gradient_checkpointing():
    def kept(task: str) -> float:
        with FakeTensorMode():
            networks = outline(experiment(task, "model.base=someone/some-model"))
            return memory.saved_bytes(networks, gradient_checkpointing=True)[0] / 2 / GIB

    assert kept("outpaint") == pytest.approx(0.566, rel=0.01)
    assert kept("hand") == pytest.approx(0.144 + MASK_HEAD, rel=0.01)

"""What every pipeline of the project promises of its parts, as tests that a subclass runs for one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import EulerDiscreteScheduler
from diffusers.models.attention_processor import Attention, SlicedAttnProcessor

from h2d.errors import CheckpointError
from h2d.pipelines.sampling import SamplingPipeline

from .contract import PipelineContract


def networks(pipeline: SamplingPipeline) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


class PartsContract(PipelineContract):
    """Folders, memory, and parts that are exchanged."""

    @pytest.fixture
    def saved(self, pipe: SamplingPipeline, tmp_path: Path) -> Path:
        pipe.save_pretrained(tmp_path / "saved")
        return tmp_path / "saved"

    # --- folders ----------------------------------------------------------------------------------------------------
    def test_loaded_it_is_what_was_saved(self, pipe, saved, expected):
        loaded = self.kind.from_pretrained(saved)
        loaded.set_progress_bar_config(disable=True)
        for name, part in networks(pipe).items():
            mine, its = part.state_dict(), getattr(loaded, name).state_dict()
            assert mine.keys() == its.keys()
            assert all(torch.equal(mine[key], its[key]) for key in mine)
        np.testing.assert_array_equal(self.call(loaded), expected)

    def test_loads_and_samples_in_half_precision(self, pipe, saved):
        loaded = self.kind.from_pretrained(saved, torch_dtype=torch.bfloat16)
        loaded.set_progress_bar_config(disable=True)
        pipe.to(torch.bfloat16)
        for name, part in networks(pipe).items():
            its = getattr(loaded, name).state_dict()
            assert all(torch.equal(value, its[key]) for key, value in part.state_dict().items())
        np.testing.assert_array_equal(self.call(loaded), self.call(pipe))

    def test_variant(self, pipe, tmp_path):
        pipe.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
        assert len(list(tmp_path.rglob("*.fp16.safetensors"))) == len(networks(pipe))
        loaded = self.kind.from_pretrained(tmp_path, variant="fp16", torch_dtype=torch.float16)
        loaded.set_progress_bar_config(disable=True)
        assert all(part.dtype == torch.float16 for part in networks(loaded).values())
        self.call(loaded, num_inference_steps=1)

    def test_parts_may_be_given(self, pipe, saved):
        scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        loaded = self.kind.from_pretrained(saved, scheduler=scheduler, vae=pipe.vae)
        assert loaded.scheduler is scheduler
        assert loaded.vae is pipe.vae

    def test_a_changed_weight_is_refused(self, saved):
        file = sorted(saved.rglob("*.safetensors"))[0]
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="is not what was saved"):
            self.kind.from_pretrained(saved)

    # --- memory, parts ----------------------------------------------------------------------------------------------
    def test_model_offload(self, pipe, expected):
        """To the CPU from the CPU, but by the hooks of a GPU: each part is found by the call that needs it."""
        pipe.enable_model_cpu_offload(device="cpu")
        assert all(hasattr(part, "_hf_hook") for part in networks(pipe).values())
        np.testing.assert_array_equal(self.call(pipe), expected)
        np.testing.assert_array_equal(self.call(pipe), expected)

    def test_sequential_offload(self, pipe, expected):
        """As ``enable_sequential_cpu_offload`` does it, which refuses a CPU: weights are there for one call only."""
        for part in networks(pipe).values():
            cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)
            assert part.device.type == "meta"
        np.testing.assert_array_equal(self.call(pipe), expected)
        np.testing.assert_array_equal(self.call(pipe), expected)

    def test_attention_slicing(self, pipe, expected):
        pipe.enable_attention_slicing(1)
        for name in self.denoisers:
            layers = [layer for layer in getattr(pipe, name).modules() if isinstance(layer, Attention)]
            assert layers
            assert all(isinstance(layer.processor, SlicedAttnProcessor) for layer in layers), name
        np.testing.assert_allclose(self.call(pipe), expected, atol=1e-4)

    def test_vae_slicing(self, pipe):
        expected = self.call(pipe, 2)
        pipe.vae.enable_slicing()
        np.testing.assert_allclose(self.call(pipe, 2), expected, atol=1e-5)

    def test_vae_tiling(self, pipe, expected):
        """Four overlapping tiles differ from the whole by what a tile does not see beyond its edge."""
        pipe.vae.enable_tiling()
        pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = 48, 12
        tiled = self.call(pipe)
        assert 0 < np.abs(tiled - expected).mean() < 0.1

    def test_another_scheduler(self, pipe, expected):
        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        other = self.call(pipe)
        assert np.abs(other - expected).max() > 1e-3
        np.testing.assert_array_equal(self.call(pipe, eta=1.0), other, "eta is DDIM's")

    def test_its_components_make_another(self, pipe, expected):
        np.testing.assert_array_equal(self.call(self.made_of(pipe.components)), expected)

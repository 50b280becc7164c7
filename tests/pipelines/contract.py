"""What every pipeline of the project promises of a call, as tests that a subclass runs for one of them."""

from __future__ import annotations

import copy
import random
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from h2d.pipelines.sampling import SamplingPipeline

from .conftest import seeded

STEPS = 2


def rows(inputs: dict[str, Any], index: list[int]) -> dict[str, Any]:
    """Some samples of a call's inputs, each of which is a list, an array or a tensor with an entry for each."""
    return {
        key: [value[row] for row in index] if isinstance(value, list) else value[index] for key, value in inputs.items()
    }


class PipelineContract:
    """A subclass says which pipeline it is for, and what a call of it needs."""

    kind: type[SamplingPipeline]
    settings: ClassVar[dict[str, Any]] = {}
    options: ClassVar[dict[str, Any]] = {}
    denoisers: tuple[str, ...]
    stages: int = 1

    @classmethod
    def inputs(cls, count: int) -> dict[str, Any]:
        """Arguments for ``count`` different samples, each a sequence with an entry for each sample."""
        raise NotImplementedError

    def free(self, inputs: dict[str, Any], output: Any) -> np.ndarray:
        """Where the pixels ``(B, H, W)`` are the network's own."""
        raise NotImplementedError

    @pytest.fixture
    def pipe(self, components: dict[str, Any]) -> SamplingPipeline:
        """A pipeline with parts of its own, which a test may change."""
        mine = {name: copy.deepcopy(components[name]) for name in self.kind._get_signature_keys(self.kind)[0]}
        return self.made_of(mine)

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, components: dict[str, Any]) -> np.ndarray:
        """What a call gives when nothing has been done to the pipeline."""
        return cls.call(cls.made_of({name: components[name] for name in cls.kind._get_signature_keys(cls.kind)[0]}))

    @classmethod
    def made_of(cls, parts: dict[str, Any]) -> Any:
        pipe = cls.kind(**parts, **cls.settings)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @classmethod
    def given(cls, count: int) -> dict[str, Any]:
        return {**cls.inputs(count), "num_inference_steps": STEPS, **cls.options}

    @classmethod
    def call(cls, pipe: Any, count: int = 1, seeds: tuple[int, ...] | None = None, **options: Any) -> np.ndarray:
        """Images ``(B, H, W, 3)`` in [0, 1] of ``count`` samples, with seeds 0, 1, ..."""
        generator = seeded(*(range(count) if seeds is None else seeds))
        given = {"generator": generator, "output_type": "np", **cls.given(count), **options}
        images = pipe(**given).images
        assert np.isfinite(images).all()
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.std(axis=(1, 2)).min() > 0
        return images

    # --- samples ----------------------------------------------------------------------------------------------------
    def test_a_sample_of_a_batch_is_the_sample_alone(self, pipe):
        """Within the last bits of float32: the sums of a convolution over three images are done in another order."""
        together = self.call(pipe, 3)
        for index in range(3):
            alone = self.call(pipe, **rows(self.inputs(3), [index]), seeds=(index,))
            np.testing.assert_allclose(alone[0], together[index], atol=1e-4)

    def test_several_images_for_each_prompt(self, pipe):
        several = self.call(pipe, 2, seeds=(0, 1, 2, 3), num_images_per_prompt=2)
        repeated = self.call(pipe, **rows(self.inputs(2), [0, 0, 1, 1]), seeds=(0, 1, 2, 3))
        np.testing.assert_allclose(several, repeated, atol=1e-4)
        assert np.abs(several[0] - several[1]).max() > 0.05

    def test_the_seed_decides(self, pipe, expected):
        np.testing.assert_array_equal(self.call(pipe, seeds=(0,)), expected)
        assert np.abs(self.call(pipe, seeds=(1,)) - expected).max() > 0.05

    def test_each_image_has_its_own_generator(self, pipe):
        two = self.call(pipe, **rows(self.inputs(1), [0, 0]), seeds=(5, 5))
        np.testing.assert_allclose(two[0], two[1], atol=1e-4)
        with pytest.raises(ValueError, match="generator must be one or a list of 1, got a list of 2"):
            self.call(pipe, seeds=(0, 1))

    def test_global_randomness_is_untouched(self, pipe):
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        self.call(pipe, eta=1.0)
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])
        assert random.getstate() == before[2]

    def test_eta_adds_noise(self, pipe, expected):
        full, again = self.call(pipe, eta=1.0), self.call(pipe, eta=1.0)
        np.testing.assert_array_equal(full, again)
        assert np.abs(full - expected).max() > 1e-3

    # --- texts, outputs ---------------------------------------------------------------------------------------------
    def test_embeddings_in_place_of_texts(self, pipe):
        texts, negatives = self.inputs(2)["prompt"], ["blurred", "bad"]
        embeds = {
            "prompt_embeds": pipe.parts.encode_text(texts),
            "negative_prompt_embeds": pipe.parts.encode_text(negatives),
        }
        expected = self.call(pipe, 2, negative_prompt=negatives)
        np.testing.assert_allclose(self.call(pipe, 2, prompt=None, **embeds), expected, atol=1e-5)
        assert np.abs(self.call(pipe, 2) - expected).max() > 1e-3, "the negative prompt counts"
        with pytest.raises(ValueError, match="prompt or prompt_embeds must be given, and not both"):
            self.call(pipe, 2, **embeds)

    def test_output_types_agree(self, pipe):
        exact = self.call(pipe, 2)
        options = self.given(2)
        pt = pipe(**options, generator=seeded(0, 1), output_type="pt").images
        np.testing.assert_array_equal(pt.permute(0, 2, 3, 1).numpy(), exact)
        pil = pipe(**options, generator=seeded(0, 1)).images
        assert [image.mode for image in pil] == ["RGB"] * 2
        np.testing.assert_allclose(np.stack([np.asarray(image) for image in pil]), exact * 255, atol=0.5001)

    def test_plain_tuple(self, pipe):
        options = {**self.given(1), "output_type": "np"}
        plain = pipe(**options, generator=seeded(0), return_dict=False)
        output = pipe(**options, generator=seeded(0))
        assert type(plain) is tuple
        assert len(plain) == len(output.keys())
        np.testing.assert_array_equal(plain[0], output.images)

    # --- callbacks --------------------------------------------------------------------------------------------------
    def test_callback_after_each_step(self, pipe):
        seen = []
        self.call(
            pipe, callback_on_step_end=lambda _, step, timestep, tensors: seen.append((step, timestep, [*tensors]))
        )
        timesteps = [int(timestep) for timestep in pipe.scheduler.timesteps]
        assert timesteps == sorted(timesteps, reverse=True)
        assert seen == self.stages * [(step, timestep, ["latents"]) for step, timestep in enumerate(timesteps)]

    def test_callback_may_change_the_latents(self, pipe):
        def grey(_: Any, step: int, timestep: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"latents": torch.zeros_like(tensors["latents"])} if step == STEPS - 1 else {}

        output = pipe(**self.given(1), callback_on_step_end=grey, output_type="np")
        free = self.free(self.inputs(1), output)
        height, width = output.images.shape[1:3]
        latents = torch.zeros(1, 4, height // pipe.parts.factor, width // pipe.parts.factor)
        expected = (pipe.parts.decode(latents) / 2 + 0.5).permute(0, 2, 3, 1).numpy()
        assert free.any()
        np.testing.assert_allclose(output.images[free], expected[free], atol=1e-6)

    def test_callback_tensors_are_checked(self, pipe):
        message = r"callback_on_step_end_tensor_inputs must be among \['latents'\], got \['noise'\]"
        with pytest.raises(ValueError, match=message):
            self.call(pipe, callback_on_step_end_tensor_inputs=["latents", "noise"])

    def test_callback_may_stop_it(self, pipe, expected):
        steps = []

        def stop(stage: Any, step: int, timestep: int, tensors: dict[str, Tensor]) -> None:
            steps.append(step)
            pipe._interrupt = step == 1

        self.call(pipe, num_inference_steps=5, callback_on_step_end=stop)
        assert steps == [0, 1]
        np.testing.assert_array_equal(self.call(pipe), expected, "the next call is not stopped")

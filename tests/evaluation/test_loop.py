import random
from dataclasses import replace

import numpy as np
import torch

from h2d.baselines import Generated
from h2d.evaluation.loop import evaluate, evaluate_hands, look
from h2d.evaluation.samplers import Compared, TwoStages
from h2d.experiment import MetricsConfig, SamplingConfig
from h2d.metrics.suite import MAIN_KEYS
from h2d.pictures import Picture
from h2d.pipelines.card import SETTINGS
from h2d.pipelines.two_stage import TwoStagePipeline

from .conftest import CROPS, PEOPLE, SIZE, Found, scattered, squares

SAMPLING = SamplingConfig(num_inference_steps=4)
METRICS = MetricsConfig()


def ours(pipeline, seed=0):
    return TwoStages(pipeline, seed, SAMPLING)


def results(pipeline, people=PEOPLE, seed=0, **options):
    outcome = evaluate(ours(pipeline, seed), people, metrics=METRICS, **options)
    return {picture.index: picture.image for picture in outcome.pictures}


def test_images_depend_on_neither_batch_size_nor_ranks(pipeline):
    whole = results(pipeline, batch_size=3)
    assert whole[0].shape == (SIZE, SIZE, 3)
    single = results(pipeline, batch_size=1)
    ranks = results(pipeline, rank=0, world_size=2) | results(pipeline, rank=1, world_size=2)
    for other in (single, ranks):
        assert other.keys() == whole.keys()
        for index, image in whole.items():
            assert np.abs(image.astype(int) - other[index]).max() <= 1
    assert not np.array_equal(whole[0], results(pipeline, seed=1)[0])


def test_poses_that_come_out_as_asked_for_score_fully(pipeline):
    detector = Found(squares(PEOPLE))
    outcome = evaluate(ours(pipeline), PEOPLE, metrics=METRICS, detector=detector, batch_size=2, keep=2)
    metrics = outcome.metrics
    assert list(metrics)[: len(MAIN_KEYS)] == list(MAIN_KEYS)
    assert metrics["n"] == 3
    assert metrics["dap"] == metrics["dap_hands"] == metrics["detection_rate"] == metrics["dar"] == 1.0
    assert metrics["mpjpe"] == metrics["mpjpe_hands"] == 0.0
    assert 0 <= metrics["mask_iou"] <= 1
    assert metrics["fid"] is None
    assert set(outcome.skipped) == {"fid", "kid", "kid_x1000", "fid_fg", "kid_fg", "clipsim"}
    assert outcome.protocol["metrics"]["ground_truth"] == "annotation"
    assert [image.shape for image in detector.images] == [(SIZE, SIZE, 3)] * 3
    assert len(outcome.pictures) == 2
    assert outcome.grid(cell=64).shape[1] == 6 * 68 + 4


def test_hands_of_another_size_than_the_pictures(pipeline):
    settings = {key: value for key, value in pipeline.config.items() if key in SETTINGS}
    smaller = TwoStagePipeline(**pipeline.components, **settings | {"hand_size": SIZE // 2})
    smaller.set_progress_bar_config(disable=True)
    outcome = evaluate(ours(smaller), PEOPLE, metrics=METRICS, batch_size=2)
    assert outcome.protocol["image_size"] == SIZE
    assert outcome.protocol["hand_crops"]["size"] == SIZE // 2
    assert 0 <= outcome.metrics["mask_iou"] <= 1
    for picture in outcome.pictures:
        assert picture.image.shape == (SIZE, SIZE, 3)
        assert picture.masks.shape == picture.true_masks.shape
        assert picture.masks.shape[2:] == (SIZE // 2, SIZE // 2)


def test_redetected_truth_looks_at_the_photographs(pipeline):
    nobody = np.zeros((133, 3), np.float32)
    detector = Found([squares(PEOPLE)[0], nobody, squares(PEOPLE)[0], squares(PEOPLE)[1]])
    outcome = evaluate(ours(pipeline), PEOPLE[:2], detector=detector, batch_size=2, metrics=MetricsConfig("redetected"))
    assert outcome.metrics["detection_rate"] == 0.5
    assert outcome.metrics["dar"] == 0.5
    assert not np.array_equal(detector.images[0], detector.images[2])


def test_without_a_detector_poses_are_skipped_with_a_reason(pipeline):
    outcome = evaluate(ours(pipeline), PEOPLE[:1], metrics=METRICS)
    assert outcome.metrics["dap"] is None
    assert outcome.skipped["mpjpe_hands"] == "no pose detector was given"
    assert outcome.metrics["mask_iou"] is not None


def test_evaluating_leaves_the_random_state_alone(pipeline):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    evaluate(ours(pipeline), PEOPLE[:1], metrics=METRICS)
    assert states() == before


def test_stage_one_alone(pipeline):
    from h2d.pipelines.hand import HandPipeline

    names = ("hand_unet", "vae", "text_encoder", "tokenizer", "scheduler")
    hands = HandPipeline(**{name: getattr(pipeline, name) for name in names})
    outcome = evaluate_hands(hands, PEOPLE[:2], crops=CROPS, seed=0, sampling=SAMPLING)
    assert outcome.metrics["n"] == 2
    assert 0 <= outcome.metrics["mask_iou"] <= 1
    assert outcome.metrics["dap"] is None
    assert set(outcome.skipped) == {name for name, value in outcome.metrics.items() if value is None}
    assert outcome.grid().ndim == 3


def test_the_next_batch_is_made_before_poses_of_the_last_are_waited_for():
    events = []

    class Waiting:
        def submit(self, images):
            number = int(images[0][0, 0, 0])
            events.append(f"start {number}")
            return lambda: events.append(f"wait {number}") or [scattered(image) for image in images]

    def make(part):
        events.append(f"make {part[0][0]}")
        return [
            Picture(number, person, {"result": np.full((SIZE, SIZE, 3), number, np.uint8)}, *torch.zeros(2, 0, 1, 4, 4))
            for number, person in part
        ]

    parts = [[(number, PEOPLE[number])] for number in range(3)]
    looks = list(look(make, parts, Waiting()))
    assert [part[0].row.number for part in looks] == [0, 1, 2]
    steps = "make 0, start 0, make 1, start 1, wait 0, make 2, start 2, wait 1, wait 2"
    assert ", ".join(events) == steps


def test_facts_of_a_row(pipeline):
    ((one,),) = look(ours(pipeline).make, [[(7, PEOPLE[1])]], Found(squares(PEOPLE[:1])))
    row = one.row
    assert (row.number, row.key, row.gesture, row.score) == (7, "s/1", "palm", 0.9)
    np.testing.assert_array_equal(row.found, squares(PEOPLE[:1])[0])
    np.testing.assert_array_equal(row.truth, squares(PEOPLE[1:2])[0])
    assert len(row.mask_ious) == 1
    assert 0 <= row.mask_ious[0] <= 1
    assert row.empty_masks == int(not (one.picture.masks > 0.5).any())


class Grey:
    """A compared system that paints grey and remarks on every second image."""

    name = "grey"

    def protocol(self):
        return {"preset": "uniform", "weights": {}}

    def generate(self, prompts, poses, generators):
        made = []
        for prompt, pose, generator in zip(prompts, poses, generators, strict=True):
            level = int(torch.randint(60, 200, (1,), generator=generator))
            remarks = ("no hand found: kept",) if "0" in prompt else ()
            panels = {"pose": np.full((SIZE, SIZE, 3), int(pose[:, 2].sum()) % 256, np.uint8)}
            made.append(Generated(np.full((SIZE, SIZE, 3), level, np.uint8), panels, remarks))
        return made


def test_a_compared_system_is_measured_by_the_same_loop():
    people = [replace(sample, caption=f"person {number}") for number, sample in enumerate(PEOPLE)]
    sampler = Compared(Grey(), 0, SIZE, torch.device("cpu"))
    detector = Found(squares(PEOPLE))
    outcome = evaluate(sampler, people, metrics=METRICS, detector=detector, batch_size=2)
    assert outcome.metrics["n"] == 3
    assert outcome.metrics["dap"] == outcome.metrics["dap_hands"] == 1.0
    assert outcome.metrics["mask_iou"] is None
    assert outcome.skipped["mask_iou"] == "no hand was made with its mask"
    assert (outcome.protocol["method"], outcome.protocol["remarks"]) == ("grey", {"no hand found": 1})
    assert list(outcome.pictures[0].panels) == ["pose", "result", "photograph"]
    one = evaluate(sampler, people, metrics=METRICS, detector=Found(squares(PEOPLE)), batch_size=1)
    assert [np.array_equal(a.image, b.image) for a, b in zip(one.pictures, outcome.pictures, strict=True)] == [True] * 3

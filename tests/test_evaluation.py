import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from h2d import evaluation_run
from h2d.annotators.pose import PoseResult
from h2d.baselines import Generated
from h2d.data.schema import Sample
from h2d.errors import CheckpointError, ConfigError, DataError, SetupError
from h2d.evaluation import evaluate, evaluate_hands
from h2d.evaluation_run import Candidate, run_evaluation
from h2d.experiment import SamplingConfig
from h2d.metrics.suite import MAIN_KEYS
from h2d.pictures import HandCrops
from h2d.samplers import Compared, TwoStages
from h2d.skeleton import HAND_LABELS, HAND_SLICES

SIZE = 32
SAMPLING = SamplingConfig(num_inference_steps=4)
CROPS = HandCrops(size=SIZE, margin=1.6, sigma_px=2.0, wrist="all")


def person(number, hands=("right", "left")):
    """A person of noise whose hands are two squares."""
    rng = np.random.default_rng(number)
    image, mask = rng.integers(0, 255, (48, 40, 3), dtype=np.uint8), np.zeros((48, 40), np.uint8)
    pose = np.zeros((133, 3), np.float32)
    pose[:17] = np.concatenate([rng.uniform(4, 36, (17, 2)), np.full((17, 1), 2)], axis=1)
    for hand in hands:
        x = 4 if hand == "right" else 24
        mask[16:28, x : x + 12] = HAND_LABELS[hand]
        pose[HAND_SLICES[hand]] = np.concatenate([rng.uniform((x, 16), (x + 12, 28), (21, 2)), np.full((21, 1), 2)], 1)
    return Sample(f"s/{number}", image, mask, pose, "a person waves", {"schema": 1, "key": f"s/{number}"})


PEOPLE = [person(0), person(1, hands=("left",)), person(2, hands=())]


@pytest.fixture(scope="module")
def pipeline():
    """Both stages with a few thousand random weights; latents are 8 x 8."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from h2d.networks.controlnet import load_controlnet
    from h2d.networks.hand_unet import HandUNet
    from h2d.networks.tiny import tiny_tokenizer
    from h2d.pipelines.two_stage import TwoStagePipeline

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(["a person waves"])
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    two_stage = TwoStagePipeline(
        hand_unet=HandUNet.from_unet(unet, factor=4),
        unet=unet,
        controlnet=load_controlnet(None, unet, factor=4),
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        image_size=SIZE,
        sigma_px=CROPS.sigma_px,
    )
    two_stage.set_progress_bar_config(disable=True)
    return two_stage


class Found:
    """A detector that finds the poses of a list in turn, whatever the images show."""

    def __init__(self, poses):
        self.poses, self.images = list(poses), []

    def __call__(self, images):
        self.images += list(images)
        return [PoseResult(self.poses.pop(0), 0.9, frozenset({"body"})) for _ in images]


def squares(people):
    from h2d.data.square import square_sample

    return [square_sample(sample, SIZE).pose for sample in people]


def ours(pipeline, seed=0):
    return TwoStages(pipeline, seed, SAMPLING)


def results(pipeline, people=PEOPLE, seed=0, **options):
    pictures = []
    evaluate(ours(pipeline, seed), people, on_picture=pictures.append, **options)
    return {picture.index: picture.image for picture in pictures}


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
    outcome = evaluate(ours(pipeline), PEOPLE, detector=detector, batch_size=2, keep=2)
    metrics = outcome.metrics
    assert list(metrics)[: len(MAIN_KEYS)] == list(MAIN_KEYS)
    assert metrics["n"] == 3
    assert metrics["dap"] == metrics["dap_hands"] == metrics["detection_rate"] == metrics["dar"] == 1.0
    assert metrics["mpjpe"] == metrics["mpjpe_hands"] == 0.0
    assert 0 <= metrics["mask_iou"] <= 1
    assert metrics["fid"] is None
    assert set(outcome.skipped) == {"fid", "kid", "kid_x1000", "fid_fg", "kid_fg", "clipsim"}
    assert outcome.protocol["ground_truth"] == "annotation"
    assert [image.shape for image in detector.images] == [(SIZE, SIZE, 3)] * 3
    assert len(outcome.pictures) == 2
    assert outcome.grid(cell=64).shape[1] == 6 * 68 + 4


def test_redetected_truth_looks_at_the_photographs(pipeline):
    nobody = np.zeros((133, 3), np.float32)
    detector = Found([squares(PEOPLE)[0], nobody, squares(PEOPLE)[0], squares(PEOPLE)[1]])
    outcome = evaluate(ours(pipeline), PEOPLE[:2], detector=detector, batch_size=2, ground_truth="redetected")
    assert outcome.metrics["detection_rate"] == 0.5
    assert outcome.metrics["dar"] == 0.5
    assert not np.array_equal(detector.images[0], detector.images[2])


def test_without_a_detector_poses_are_skipped_with_a_reason(pipeline):
    outcome = evaluate(ours(pipeline), PEOPLE[:1])
    assert outcome.metrics["dap"] is None
    assert outcome.skipped["mpjpe_hands"] == "no pose detector was given"
    assert outcome.metrics["mask_iou"] is not None


def test_evaluating_leaves_the_random_state_alone(pipeline):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    evaluate(ours(pipeline), PEOPLE[:1])
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


def test_a_wrong_word_is_refused(pipeline):
    with pytest.raises(ValueError, match="ground_truth must be one of"):
        evaluate(ours(pipeline), PEOPLE, ground_truth="guess")


@pytest.fixture(scope="module")
def pipeline_folder(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def experiment(tmp_path):
    from h2d.config import compose
    from h2d.data.schema import encode_sample
    from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
    from h2d.files import sha256_of
    from h2d.images import encode_png

    shard = tmp_path / "shards" / "test-000000.tar"
    shard.parent.mkdir()
    rows = (
        (p.key, encode_sample(p.key, encode_png(p.image), "png", p.hands, p.pose, p.caption, p.meta)) for p in PEOPLE
    )
    write_tar(shard, rows)
    info = ShardInfo(shard.name, "test", len(PEOPLE), shard.stat().st_size, sha256_of(shard))
    write_manifest(shard.parent, Manifest((info,), {}, {}))
    overrides = [f"data.shards={shard.parent}", f"run.dir={tmp_path / 'runs'}", "sampling.num_inference_steps=4"]
    return compose("evaluate", overrides).experiment


class Detectors:
    """Stands in for the class of the MediaPipe detector; each of its detectors finds what was asked for."""

    def __call__(self):
        return self

    def __enter__(self):
        return Found(squares(PEOPLE))

    def __exit__(self, *error):
        return None


def test_the_command_leaves_numbers_and_pictures(experiment, pipeline_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation_run, "PoseDetector", Detectors())
    table = run_evaluation(experiment, Candidate(pipeline_folder))
    folder = tmp_path / "runs" / "evaluate"
    assert "dap_hands" in table
    assert str(folder / "metrics.json") in table
    text = (folder / "metrics.json").read_text()
    report = json.loads(text)
    assert {*MAIN_KEYS, "protocol", "skipped", "provenance"} <= set(report)
    assert list(report) == sorted(report)
    assert "NaN" not in text
    assert report["n"] == 3
    assert report["dap"] == 1.0
    assert report["kid"] is None
    assert report["skipped"]["kid"]
    assert report["protocol"]["split"] == "test"
    assert report["provenance"]["versions"]["torch"]
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [f"{i:06d}.png" for i in range(3)]
    assert (folder / "report.png").is_file()
    with pytest.raises(ConfigError, match="already holds an evaluation"):
        run_evaluation(experiment, Candidate(pipeline_folder))


def test_pictures_of_an_unfinished_evaluation_do_not_stay(experiment, pipeline_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation_run, "PoseDetector", Detectors())
    samples = tmp_path / "runs" / "evaluate" / "samples"
    samples.mkdir(parents=True)
    for name in ("000099.png", "step-0000010.png"):
        (samples / name).write_bytes(b"")
    run_evaluation(
        replace(experiment, evaluation=replace(experiment.evaluation, samples=1)), Candidate(pipeline_folder)
    )
    assert sorted(path.name for path in samples.iterdir()) == ["000000.png", "step-0000010.png"]


def test_other_blending_than_in_training_is_an_error(experiment, pipeline_folder):
    experiment = replace(experiment, sampling=replace(experiment.sampling, blend="clean"))
    with pytest.raises(ConfigError, match="trained with blend=noised"):
        run_evaluation(experiment, Candidate(pipeline_folder))


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [({"samples": 4}, "has 3 samples, not 4", "-1 for all"), ({"split": "val"}, "no split 'val'", "split=test")],
)
def test_samples_that_are_not_there_are_an_error_before_anything_is_loaded(change, message, hint, experiment, tmp_path):
    experiment = replace(experiment, evaluation=replace(experiment.evaluation, **change))
    with pytest.raises(DataError, match=message) as caught:
        run_evaluation(experiment, Candidate(tmp_path / "no pipeline"))
    assert hint in caught.value.hint


def test_a_folder_without_a_pipeline_is_named(experiment, tmp_path):
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        run_evaluation(experiment, Candidate(tmp_path))


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
    outcome = evaluate(sampler, people, detector=detector, batch_size=2)
    assert outcome.metrics["n"] == 3
    assert outcome.metrics["dap"] == outcome.metrics["dap_hands"] == 1.0
    assert outcome.metrics["mask_iou"] is None
    assert outcome.skipped["mask_iou"] == "no sample has what it is measured on"
    assert (outcome.protocol["method"], outcome.protocol["remarks"]) == ("grey", {"no hand found": 1})
    assert list(outcome.pictures[0].panels) == ["pose", "result", "photograph"]
    one = evaluate(sampler, people, detector=Found(squares(PEOPLE)), batch_size=1)
    assert [np.array_equal(a.image, b.image) for a, b in zip(one.pictures, outcome.pictures, strict=True)] == [True] * 3


def test_what_does_not_go_together_or_is_missing_is_named(experiment, pipeline_folder):
    cases = [
        (Candidate(), ConfigError, "--method h2d needs a pipeline"),
        (Candidate(pipeline_folder, "humansd"), ConfigError, "--method humansd has no pipeline folder"),
        (Candidate(method="human"), ConfigError, "there is no system 'human'"),
        (Candidate(method="humansd"), SetupError, "humansd cannot run on this machine"),
    ]
    for candidate, kind, message in cases:
        with pytest.raises(kind, match=message):
            run_evaluation(experiment, candidate)

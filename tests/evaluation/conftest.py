"""People of noise, and both stages with a few thousand random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h2d.annotators.pose import PoseResult
from h2d.config import compose
from h2d.data.schema import Sample, encode_sample
from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
from h2d.data.square import square_sample
from h2d.experiment import Experiment
from h2d.files import sha256_of
from h2d.images import encode_png
from h2d.pictures import HandCrops
from h2d.skeleton import HAND_LABELS, HAND_SLICES

from ..small_networks import small_networks

SIZE = 32
CROPS = HandCrops(size=SIZE, margin=1.6, sigma_px=2.0, wrist="all")


def person(number: int, hands: Sequence[str] = ("right", "left")) -> Sample:
    """A person of noise whose hands are two squares."""
    rng = np.random.default_rng(number)
    image, mask = rng.integers(0, 255, (48, 40, 3), dtype=np.uint8), np.zeros((48, 40), np.uint8)
    pose = np.zeros((133, 3), np.float32)
    pose[:17] = np.concatenate([rng.uniform(4, 36, (17, 2)), np.full((17, 1), 2)], axis=1)
    for hand in hands:
        x = 4 if hand == "right" else 24
        mask[16:28, x : x + 12] = HAND_LABELS[hand]
        pose[HAND_SLICES[hand]] = np.concatenate([rng.uniform((x, 16), (x + 12, 28), (21, 2)), np.full((21, 1), 2)], 1)
    meta = {"schema": 1, "key": f"s/{number}", "gesture": ("fist", "palm")[number % 2]}
    return Sample(f"s/{number}", image, mask, pose, "a person waves", meta)


PEOPLE = [person(0), person(1, hands=("left",)), person(2, hands=())]


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """Both stages; latents are 8 x 8."""
    return tiny_pipeline(SIZE)


def tiny_pipeline(size: int) -> Any:
    """Both stages with a few thousand random weights, for pictures of ``size`` pixels."""
    from diffusers import DDIMScheduler

    from h2d.networks.base import load_tokenizer, resolve_base
    from h2d.networks.controlnet import load_controlnet
    from h2d.networks.hand_unet import HandUNet
    from h2d.pipelines.two_stage import TwoStagePipeline

    tokenizer = load_tokenizer(resolve_base("tiny"))
    unet, vae, text = small_networks(tokenizer)
    two_stage = TwoStagePipeline(
        hand_unet=HandUNet.from_unet(unet, factor=4),
        unet=unet,
        controlnet=load_controlnet(None, unet, factor=4),
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        image_size=size,
        sigma_px=CROPS.sigma_px,
    )
    two_stage.set_progress_bar_config(disable=True)
    return two_stage


class Found:
    """A detector that finds the poses of a list in turn, whatever the images show."""

    def __init__(self, poses: Sequence[np.ndarray]) -> None:
        self.poses, self.images = list(poses), []

    def submit(self, images: Sequence[np.ndarray]) -> Callable[[], list[PoseResult]]:
        self.images += list(images)
        results = [PoseResult(self.poses.pop(0), 0.9, frozenset({"body"})) for _ in images]
        return lambda: results


class Scattered:
    """A detector whose poses and scores follow from the pixels alone; it can be used as PoseDetector is."""

    def __init__(self, *settings: Any) -> None:
        self.settings = settings

    def submit(self, images: Sequence[np.ndarray]) -> Callable[[], list[PoseResult]]:
        return lambda: [scattered(image) for image in images]

    def __enter__(self) -> Scattered:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def scattered(image: np.ndarray) -> PoseResult:
    rng = np.random.default_rng(int(image.astype(np.int64).sum()))
    pose = np.concatenate([rng.uniform(1, len(image) - 1, (133, 2)), np.full((133, 1), 2)], 1).astype(np.float32)
    return PoseResult(pose, float(rng.uniform()), frozenset({"body"}))


def squares(people: Sequence[Sample]) -> list[np.ndarray]:
    return [square_sample(sample, SIZE).pose for sample in people]


@pytest.fixture(scope="session")
def pipeline_folder(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return str(folder)


def write_shards(folder: Path, people: Sequence[Sample], split: str = "test") -> Path:
    """A folder with one shard."""
    rows = (
        (p.key, encode_sample(p.key, encode_png(p.image), "png", p.hands, p.pose, p.caption, p.meta)) for p in people
    )
    path = folder / f"{split}-000000.tar"
    folder.mkdir(parents=True, exist_ok=True)
    write_tar(path, rows)
    info = ShardInfo(path.name, split, len(people), path.stat().st_size, sha256_of(path))
    write_manifest(folder, Manifest((info,), {}, {}))
    return folder


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Experiment]:
    """``experiment("evaluation.samples=1", people=PEOPLE)`` on shards of its own."""

    def make(*overrides: str, name: str = "evaluate", people: Sequence[Sample] = PEOPLE) -> Experiment:
        shards = tmp_path / f"shards-{len(people)}"
        if not shards.is_dir():
            write_shards(shards, people)
        world = [f"data.shards={shards}", f"run.dir={tmp_path / 'runs'}", "sampling.num_inference_steps=4"]
        return compose(name, [*world, "image_size=64", *overrides]).experiment

    return make

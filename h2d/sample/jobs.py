"""The poses that are to be sampled, each with what a person should look at before waiting for images."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from h2d.detection import Detector, PoseDetector
from h2d.errors import CheckpointError, ConfigError, DataError
from h2d.files import make_folder, write_atomic
from h2d.images import encode_png
from h2d.masks import only_hands, present_hands
from h2d.pipelines.canvas import hand_places
from h2d.pipelines.checks import pose_warnings
from h2d.pipelines.keeping import Kept
from h2d.pipelines.loading import BROKEN_SETTINGS, EXPORT_HINT
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.poses.checking import check_picture
from h2d.poses.masks import find_hands, read_hand_mask
from h2d.poses.scene import Scene, frame_scene
from h2d.poses.sources import read_scene
from h2d.poses.writing import write_pose
from h2d.sample.request import SampleRequest
from h2d.skeleton import HAND_LABELS

DEFAULT_PROMPT = "a photo of a person"


@dataclass(frozen=True)
class Canvas:
    """What a pipeline's folder says about its canvas, known before its networks are loaded.

    Args:
        width: in pixels.
        height: in pixels.
        factor: image pixels per latent cell and side.
        margin: of the hand crops, see :func:`h2d.masks.hand_boxes`.
    """

    width: int
    height: int
    factor: int
    margin: float

    @classmethod
    def of(cls, request: SampleRequest) -> Canvas:
        """The size that is asked for, or the pipeline's own.

        Raises:
            CheckpointError: the folder is no pipeline.
            ConfigError: the size is not a whole number of latent cells.
        """
        folder = TwoStagePipeline.find_folder(request.pipeline)
        try:
            settings = TwoStagePipeline.load_config(folder)
            widths = AutoencoderKL.load_config(folder, subfolder="vae")["block_out_channels"]
            factor, own, margin = 2 ** (len(widths) - 1), int(settings["image_size"]), float(settings["margin"])
        except BROKEN_SETTINGS as error:
            raise CheckpointError(f"{folder}: settings of the pipeline cannot be read: {error}", EXPORT_HINT) from error
        for name, side in (("height", request.height), ("width", request.width)):
            if side is not None and side % factor:
                raise ConfigError(f"--{name} has to be a multiple of {factor}, not {side}")
        return cls(request.width or own, request.height or own, factor, margin)


@dataclass(frozen=True)
class Job:
    """A pose, framed for the canvas, and the folder for what is made of it."""

    source: str
    folder: Path
    scene: Scene
    kept: Kept
    prompt: str
    warnings: list[str]


def prepare(request: SampleRequest) -> tuple[list[Job], list[DataError]]:
    """Read every pose and write ``pose.png`` and ``pose.json``.

    Returns:
        The jobs, and why the other poses cannot be sampled.
    """
    canvas = Canvas.of(request)
    jobs: list[Job] = []
    refused: list[DataError] = []
    with PoseDetector() as detector:
        for source, folder in zip(request.pose, folders(request.pose, request.out), strict=True):
            try:
                job = _job(request, source, folder, canvas, detector)
            except DataError as error:
                refused.append(error)
                continue
            jobs.append(job)
            _show(job, canvas)
    return jobs, refused


def _show(job: Job, canvas: Canvas) -> None:
    """Say what may go wrong, and write ``pose.png`` and ``pose.json``."""
    for line in job.warnings:
        print(f"warning: {job.source}: {line}", file=sys.stderr, flush=True)
    make_folder(job.folder)
    people = job.kept.without_kept(job.scene.people)
    boxes = [(place.box, place.names) for place in hand_places(people, canvas.margin)]
    write_atomic(job.folder / "pose.png", encode_png(check_picture(job.scene, boxes)))
    write_pose(job.folder / "pose.json", job.scene)


def folders(sources: tuple[str, ...], out: Path) -> list[Path]:
    """Where the files of each pose go: ``out``, or a folder named after it, with a number where two have one name."""
    if len(sources) == 1:
        return [out]
    names: list[str] = []
    for source in sources:
        name = (source.rpartition("::")[2] if "::" in source else Path(source).stem).replace("/", "_")
        names.append(name if name not in names else f"{name}-{len(names)}")
    return [out / name for name in names]


def _job(request: SampleRequest, source: str, folder: Path, canvas: Canvas, detector: Detector) -> Job:
    scene = read_scene(source, request.people, detector)
    if request.hand_mask is not None:
        scene = replace(scene, hands=read_hand_mask(request.hand_mask, scene))
    if request.keep_hand:
        _check_kept(request, scene)
        wanted = np.stack([only_hands(pose, request.keep_hand) for pose in scene.people])
        scene = replace(scene, hands=find_hands(replace(scene, people=wanted), request.sam))
        _check_masks(request, scene)
    scene = frame_scene(scene, canvas.width, canvas.height)
    prompt = request.prompt if request.prompt is not None else scene.caption or DEFAULT_PROMPT
    warnings = pose_warnings(scene.people, canvas.height, canvas.width, canvas.factor)
    return Job(source, folder, scene, _kept(request, scene), prompt, warnings)


def _check_kept(request: SampleRequest, scene: Scene) -> None:
    if not scene.has_picture:
        raise DataError(f"{scene.name} has no picture whose hand could be kept", "give --pose a photograph")
    present = {hand for pose in scene.people for hand in present_hands(pose)}
    if missing := [hand for hand in request.keep_hand if hand not in present]:
        raise DataError(f"{scene.name}: no {missing[0]} hand is found", "right and left are the person's own")


def _check_masks(request: SampleRequest, scene: Scene) -> None:
    """A mask that misses the hand would keep something else, and the hand would be made beside it."""
    made = _kept(request, scene).without_kept(scene.people)
    for number, pose in enumerate(made, start=1):
        for hand in present_hands(pose):
            if hand in request.keep_hand:
                who = f"person {number}, " if len(made) > 1 else ""
                raise DataError(
                    f"{scene.name}: {who}the mask of the {hand} hand does not hold most of its keypoints",
                    "give another --hand-mask; pose.json of --pose-only tells where the hand is",
                )


def _kept(request: SampleRequest, scene: Scene) -> Kept:
    """The pixels of the hands that are to be kept."""
    image = torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255
    if scene.hands is None:
        return Kept(image, torch.zeros_like(image[:1]))
    mask = np.isin(scene.hands, [HAND_LABELS[hand] for hand in request.keep_hand])
    return Kept(image, torch.from_numpy(mask)[None].float())

"""From tasks and their checkpoints to pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from h2d.checkpoints import experiment_of, read_checkpoint
from h2d.errors import CheckpointError
from h2d.networks.base import check_weights, make_sampler
from h2d.pipelines.hand import HandPipeline
from h2d.pipelines.outpaint import OutpaintPipeline
from h2d.pipelines.sampling import SamplingPipeline
from h2d.pipelines.two_stage import TwoStagePipeline
from h2d.tasks import build_task
from h2d.tasks.base import DiffusionTask
from h2d.tasks.hand import HandGenerator
from h2d.tasks.outpaint import Outpainter

Kind = TypeVar("Kind", bound=SamplingPipeline)


def load_task(path: Path) -> DiffusionTask:
    """The task of a checkpoint with its trained weights, averaged ones where the run kept an average.

    Raises:
        CheckpointError: the file is no checkpoint, or its weights do not fit its settings or are not finite.
        SetupError: the base model that it was trained on is not here.
    """
    checkpoint = read_checkpoint(path)
    task = build_task(experiment_of(checkpoint, path))
    try:
        task.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{path} does not fit the settings in it: {reason}") from error
    check_weights(task, str(path))
    return task.eval()


def load_stages(hand: Path, outpaint: Path) -> tuple[HandGenerator, Outpainter]:
    """Both stages from their checkpoints.

    Raises:
        CheckpointError: a checkpoint is of another task, or the two cannot work together.
    """
    stage_one, stage_two = load_task(hand), load_task(outpaint)
    if not isinstance(stage_one, HandGenerator):
        raise CheckpointError(f"{hand} is a checkpoint of task {stage_one.experiment.task}, not of hand")
    if not isinstance(stage_two, Outpainter):
        raise CheckpointError(f"{outpaint} is a checkpoint of task {stage_two.experiment.task}, not of outpaint")
    check_partners(stage_one, stage_two)
    return stage_one, stage_two


def load_partner(path: Path, task: DiffusionTask) -> DiffusionTask:
    """The other stage of ``task`` from its checkpoint.

    Raises:
        CheckpointError: it is of the same stage, or of another base model.
    """
    partner = load_task(path)
    hand, outpaint = (task, partner) if isinstance(task, HandGenerator) else (partner, task)
    if not isinstance(hand, HandGenerator) or not isinstance(outpaint, Outpainter):
        raise CheckpointError(f"{path} is a checkpoint of task {partner.experiment.task}, which is no other stage")
    check_partners(hand, outpaint)
    return partner


def check_partners(hand: HandGenerator, outpaint: Outpainter) -> None:
    """Refuse two stages that were trained on different base models.

    Raises:
        CheckpointError: naming both.
    """
    one, two = hand.experiment.model.base, outpaint.experiment.model.base
    if one != two:
        raise CheckpointError(
            f"the two stages do not fit: model.base is {one} in stage I and {two} in stage II",
            "train both with the same setting",
        )


def hand_pipeline(task: HandGenerator) -> HandPipeline:
    """Stage I alone, over the networks of the task (shared, not copied)."""
    parts = task.parts
    pipeline = HandPipeline(task.unet, parts.vae, parts.text_encoder, parts.tokenizer, _sampler(task))
    return _quiet(pipeline)


def outpaint_pipeline(task: Outpainter) -> OutpaintPipeline:
    """Stage II alone, over the networks of the task."""
    parts, sampler = task.parts, _sampler(task)
    return _quiet(OutpaintPipeline(task.unet, task.controlnet, parts.vae, parts.text_encoder, parts.tokenizer, sampler))


def two_stage_pipeline(hand: HandGenerator, outpaint: Outpainter) -> TwoStagePipeline:
    """Both stages, over the networks of the tasks; stage I says how hands are drawn, stage II how they are blended."""
    parts, experiment = hand.parts, hand.experiment
    return _quiet(
        TwoStagePipeline(
            hand_unet=hand.unet,
            unet=outpaint.unet,
            controlnet=outpaint.controlnet,
            vae=parts.vae,
            text_encoder=parts.text_encoder,
            tokenizer=parts.tokenizer,
            scheduler=_sampler(outpaint),
            image_size=outpaint.experiment.image_size,
            hand_size=experiment.image_size,
            sigma_px=experiment.sigma_px,
            margin=experiment.data.crop_margin,
            wrist=experiment.data.wrist,
            blend=outpaint.experiment.sampling.blend,
            start_radius_px=outpaint.experiment.sampling.start_radius_px,
            num_inference_steps=outpaint.experiment.sampling.num_inference_steps,
            guidance_scale=outpaint.experiment.sampling.guidance_scale,
        )
    )


def _sampler(task: HandGenerator | Outpainter) -> Any:
    return make_sampler(task.scheduler, task.experiment.sampling.scheduler)


def _quiet(pipeline: Kind) -> Kind:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

"""What the values of an experiment have to be, one by one and together. Imports no more than the settings do."""

from __future__ import annotations

import math
from collections.abc import Iterator

from h2d.experiment import LATENT_TASKS, MAX_STEPS, Experiment, leaves

AT_LEAST = {
    1: (
        "data.batch_size trainer.devices trainer.num_nodes trainer.global_batch trainer.max_skipped trainer.timeout_s "
        "trainer.log_every_n_steps trainer.val_every_n_steps "
        "checkpoint.every_n_steps evaluation.batch_size evaluation.detector_jobs metrics.detect_size "
        "metrics.kid_subsets "
        "sampling.num_inference_steps data.crop_margin"
    ),
    2: "metrics.kid_subset_size",
    0: (
        "seed data.num_workers data.augment.rgb_shift data.augment.brightness data.augment.contrast loss.mask_weight "
        "optim.weight_decay optim.warmup_steps optim.grad_clip evaluation.every_n_steps evaluation.grid_samples "
        "sampling.guidance_scale sampling.start_radius_px sampling.unblended_last_steps"
    ),
}
ABOVE_ZERO = "data.heatmap_sigma_px optim.lr loss.min_snr_gamma metrics.oks_area_factor"
SHARES = "loss.mask_dropout loss.caption_dropout optim.ema_decay"
COUNT_OR_ALL = "trainer.max_steps trainer.max_epochs trainer.val_samples checkpoint.keep evaluation.samples"


def problems(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Key and complaint of every value out of range and of every rule between settings that does not hold."""
    for key, value in leaves(experiment):
        if isinstance(value, (int, float)) and (complaint := _range_complaint(key, value)):
            yield key, f"{complaint}, not {value}"
    yield from _rules(experiment)


def _range_complaint(key: str, value: float) -> str:
    if not math.isfinite(value):
        return "has to be a finite number"
    for least, keys in AT_LEAST.items():
        if key in keys.split() and value < least:
            return f"has to be at least {least}"
    if key in ABOVE_ZERO.split() and value <= 0:
        return "has to be above 0"
    if key in SHARES.split() and not 0 <= value <= 1:
        return "has to lie between 0 and 1"
    if key in COUNT_OR_ALL.split() and value != -1 and value < 1:
        return "has to be at least 1, or -1"
    return ""


def _rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    trainer, sampling = experiment.trainer, experiment.sampling
    if experiment.image_size < 64 or experiment.image_size % 8:
        yield "image_size", f"has to be a multiple of 8 and at least 64, not {experiment.image_size}"
    if experiment.world_size > 0 and trainer.global_batch % experiment.world_size:
        yield (
            "trainer.global_batch",
            f"{trainer.global_batch} is not a multiple of {experiment.world_size} = {trainer.devices} devices x "
            f"{trainer.num_nodes} nodes",
        )
    if experiment.model.mask_layers not in (3, 4):
        yield "model.mask_layers", f"has to be 4 or 3, not {experiment.model.mask_layers}"
    if trainer.precision == "16-mixed" and experiment.optim.fused and experiment.optim.grad_clip:
        yield "optim.fused", "cannot go with 16-mixed and optim.grad_clip: the fused step scales gradients itself"
    if experiment.data.latents is not None and experiment.task not in LATENT_TASKS:
        yield "data.latents", f"is for the tasks {', '.join(LATENT_TASKS)}, not {experiment.task}"
    patch = experiment.data.patch
    if patch is not None and (patch % 8 or not 0 < patch <= experiment.image_size):
        yield "data.patch", f"has to be a multiple of 8 and at most image_size={experiment.image_size}, not {patch}"
    if trainer.max_steps == trainer.max_epochs == -1:
        yield "trainer.max_steps", "is -1 and so is trainer.max_epochs: training would never end"
    if 0 <= trainer.max_steps <= experiment.optim.warmup_steps and experiment.optim.warmup_steps:
        yield "optim.warmup_steps", f"{experiment.optim.warmup_steps} leaves nothing of {trainer.max_steps} steps"
    if sampling.num_inference_steps > MAX_STEPS:
        yield "sampling.num_inference_steps", f"has to be at most {MAX_STEPS}, not {sampling.num_inference_steps}"
    if sampling.unblended_last_steps >= sampling.num_inference_steps:
        yield (
            "sampling.unblended_last_steps",
            f"{sampling.unblended_last_steps} leaves nothing to blend in {sampling.num_inference_steps} steps",
        )
    name = experiment.run.name
    if name is not None and (not name or name.startswith((".", "/")) or ".." in name.split("/")):
        yield "run.name", f"{name!r} is not a folder name inside run.dir"

"""Every setting of an experiment with its default.

The string under a field is its help text (``h2d config explain``). YAML files hold only differences from this file.
Nothing here imports more than the standard library, so a login node checks an experiment in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

MISSING: Any = "???"
"""What a required setting holds until a file or the command line gives it a value."""

MAX_STEPS = 1000
"""Noise levels of Stable Diffusion, and so the most denoising steps."""

LATENT_TASKS = ("hand", "outpaint", "text_to_image")
"""Tasks that can train on cached latents."""

REFERENCE_SIZE = 512
"""Settings in pixels are given for images of this side; the parts scale them to ``image_size``."""


@dataclass(frozen=True)
class RunConfig:
    """Where a run lies."""

    dir: str = "runs"
    """folder that holds all runs; TensorBoard watches it"""
    name: str | None = None
    """folder of this run inside run.dir; the experiment's name when not set"""


@dataclass(frozen=True)
class AugmentConfig:
    """Random colour changes of the training images of stage I."""

    rgb_shift: float = 0.05
    """largest shift of each colour channel, as a share of the full range (Section IV-A)"""
    brightness: float = 0.2
    """largest relative change of brightness (Section IV-A)"""
    contrast: float = 0.2
    """largest relative change of contrast (Section IV-A)"""


@dataclass(frozen=True)
class DataConfig:
    """What is read and how examples are made of it."""

    shards: str = MISSING
    """folder of shards, as `python -m data_prep all` leaves it; several: data/{one,other}/shards"""
    latents: str | None = None
    """folder that `h2d data latents` made of these shards; training reads it in place of the images"""
    batch_size: int = 4
    """samples on each device at a time, at most; gradients of several batches are accumulated to the global batch"""
    num_workers: int = 4
    """processes that load data, for each device; 0 loads in the training process"""
    crop_margin: float = 1.6
    """side of the hand crop in lengths of the hand's keypoint box"""
    heatmap_sigma_px: float = 8.0
    """standard deviation of a keypoint in the finger heat maps, in pixels of a 512 x 512 image"""
    patch: int | None = None
    """side of the random part of each picture that the task autoencoder trains on; the whole when not set"""
    wrist: Literal["all", "none", "thumb"] = "all"
    """finger channels that show the wrist"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class ModelConfig:
    """What training starts from."""

    base: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """Stable Diffusion 1.5 as a folder or hub id, or `tiny` for the model inside this package"""
    unet: str | None = None
    """another UNet than the base's: a .safetensors file of the Stable Diffusion 1.5 family, or a diffusers folder"""
    hand_unet: str | None = None
    """exported hand UNet to start stage I from, folder or hub id; the base's UNet, widened, when not set"""
    controlnet: str | None = None
    """pose ControlNet to start stage II from, folder or hub id; a copy of the base's encoder when not set"""
    conv_in_init: Literal["random", "zero"] = "random"
    """start of the weights that read the hand condition (Section III-B: random)"""
    mask_attach: Literal["last", "up1"] = "last"
    """features that the mask head reads: the last ones, or those of the second up block at a half of the resolution"""
    mask_layers: int = 4
    """doubling layers of the mask head (Section III-B: 4); with 3, a fourth one keeps the size"""
    scratch: Literal["tiny", "tiny-model"] = "tiny"
    """size of the networks that the task autoencoder trains from nothing"""
    mask_hint: bool = True
    """the ControlNet sees the hand mask as a fourth hint channel (Section III-C)"""


@dataclass(frozen=True)
class LossConfig:
    """What is minimised."""

    mask_weight: float = 0.5
    """lambda of Eq. 8"""
    mask_dropout: float = 0.5
    """probability of zeroing the mask channel, which makes mask-free sampling possible (Section III-B)"""
    caption_dropout: float = 0.1
    """probability of an empty caption, which classifier-free guidance needs"""
    blend_hands: bool = True
    """stage II is given the hands (Eq. 11) and learns what is around them; else it becomes a plain pose ControlNet"""
    min_snr_gamma: float | None = None
    """cap of the signal-to-noise weight of the noise loss (arXiv 2303.09556); no weights when not set"""


@dataclass(frozen=True)
class OptimConfig:
    """How weights move."""

    lr: float = 1e-5
    """learning rate of AdamW (Section IV-B)"""
    weight_decay: float = 1e-2
    """weight decay of AdamW"""
    warmup_steps: int = 0
    """optimiser steps of linear warm-up"""
    schedule: Literal["constant", "cosine"] = "constant"
    """learning rate after the warm-up; cosine falls to zero at trainer.max_steps"""
    fused: bool = True
    """one kernel for the whole AdamW step"""
    grad_clip: float = 1.0
    """largest norm of the gradient; 0 leaves it as it is"""
    ema_decay: float | None = None
    """decay of the averaged weights that evaluation and export use, reached step by step; no average when not set"""


@dataclass(frozen=True)
class TrainerConfig:
    """How long, on what, and how it is watched."""

    max_steps: int = -1
    """optimiser steps; -1 leaves the end to max_epochs, and where both are set the earlier end counts"""
    max_epochs: int = 5
    """passes over the data; -1 leaves the end to max_steps"""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = 1
    """devices on each node"""
    num_nodes: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    global_batch: int = 32
    """samples behind one optimiser step, over all devices (Section IV-B); gradient accumulation follows from it"""
    log_every_n_steps: int = 50
    val_every_n_steps: int = 1000
    """optimiser steps between two measurements of the validation loss"""
    val_samples: int = 256
    """samples behind the validation loss, always the first ones with the same noise; -1 takes all"""
    gradient_checkpointing: bool = False
    """compute activations twice and store few of them: a third slower, and several times the batch fits"""
    channels_last: bool = True
    """order of the weights in memory that convolutions are faster with"""
    compile: bool = False
    """compile the trained network with torch.compile; the first steps take minutes"""
    max_skipped: int = 10
    """steps in a row whose gradient is not finite, which are skipped, before training stops"""
    timeout_s: int = 600
    """seconds that a rank waits for the others before all of them end"""


@dataclass(frozen=True)
class CheckpointConfig:
    """When training saves itself."""

    every_n_steps: int = 1000
    """optimiser steps between two checkpoints"""
    keep: int = 2
    """newest checkpoints to keep; -1 keeps all"""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, during training and afterwards."""

    every_n_steps: int = 2000
    """optimiser steps between two evaluations during training; 0 evaluates at the end only"""
    samples: int = 64
    """poses to evaluate, the first ones of the split; -1 takes all"""
    split: str = "val"
    batch_size: int = 4
    """images sampled at a time; does not change the images"""
    partner: str | None = None
    """checkpoint of the other stage; with it, both stages are evaluated together during training"""
    grid_samples: int = 8
    """samples shown in the TensorBoard picture"""
    detector: Literal["mediapipe", "none"] = "mediapipe"
    """finds poses in generated images; without it no pose metrics are measured"""
    detector_jobs: int = 2
    """processes that find poses while the next images are sampled"""
    ids: str | None = None
    """file of keys, one a line: `h2d evaluate` takes those samples of the split"""
    choose: Literal["first", "stratified"] = "first"
    """which samples `h2d evaluate` takes: the first ones, or of each gesture its share of all"""
    methods: str = "all"
    """what `h2d evaluate` measures, with commas between: h2d, bbox, naive, sequential, compared systems, ..."""


@dataclass(frozen=True)
class MetricsConfig:
    """How `h2d evaluate` compares (Section IV-C), wherever the paper leaves it open."""

    ground_truth: Literal["annotation", "redetected"] = "annotation"
    """poses to compare with: the data set's, or those that the detector finds in the photographs"""
    detect_size: int = 512
    """smaller images are enlarged to this side before poses are looked for"""
    oks_area: Literal["person", "own"] = "person"
    """area that scales distances in dap_hands: box around all keypoints of the person, or around the hands"""
    oks_area_factor: float = 1.0
    """factor of that area; xtcocotools takes 0.53"""
    dap_scores: Literal["visibility", "constant"] = "visibility"
    """confidence that ranks detections in DAP: mean visibility of the body, or all equal; DAR does not depend on it"""
    unfound_hands: Literal["miss", "wrong"] = "miss"
    """dap_hands of a found person without found hands: not detected, or detected in the wrong place, as in COCO"""
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    """images in a subset of KID, at most: fewer images make it smaller"""
    foreground: Literal["auto", "sam", "selfie", "none"] = "auto"
    """cuts people out for fid_fg and kid_fg; auto takes SAM or else, under another name, MediaPipe's selfie"""


@dataclass(frozen=True)
class SamplingConfig:
    """How pictures are generated."""

    scheduler: str = "DDIM"
    """the paper's, or another of diffusers' that fits: `DPMSolverMultistep` is meant for half the steps"""
    num_inference_steps: int = 50
    """steps of each stage"""
    guidance_scale: float = 7.5
    negative_prompt: str = ""
    """text of the unconditional branch in evaluations"""
    blending: Literal["sequential", "naive", "bbox"] = "sequential"
    """sequential mask expansion (Section III-D) or one of its two rivals (Section IV-E)"""
    blend: Literal["noised", "clean"] = "noised"
    """hand latents noised to the level of the step, or clean as Eq. 11 is printed; training and sampling share it"""
    start_radius_px: float = 49.0
    """radius of the first, largest mask, in pixels of a 512 x 512 image (Section III-D)"""
    unblended_last_steps: int = 2
    """last steps that run without blending (Section III-D)"""


@dataclass(frozen=True)
class Experiment:
    """Every setting."""

    task: Literal["hand", "outpaint", "autoencoder", "text_to_image", "evaluate"] = MISSING
    """hand (stage I), outpaint (stage II), evaluate; autoencoder and text_to_image train the parts of a base model"""
    preset: str = ""
    """files of configs/presets to merge, one or several: `tiny` runs on a laptop, `ddp8,24gb` on eight small cards"""
    seed: int = 0
    image_size: int = 512
    """side of the square images in pixels, in stage I of the hand crops; the stages of a pipeline may differ in it"""
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    @property
    def accumulation(self) -> int:
        """Batches of each device behind one optimiser step."""
        return self.trainer.global_batch // (self.micro_batch * self.world_size)

    @property
    def micro_batch(self) -> int:
        """Samples on each device at a time: the most up to ``data.batch_size`` that the global batch divides by."""
        share = max(1, self.trainer.global_batch // self.world_size)
        return next(size for size in range(min(self.data.batch_size, share), 0, -1) if share % size == 0)

    @property
    def world_size(self) -> int:
        """Devices of all nodes."""
        return self.trainer.devices * self.trainer.num_nodes

    @property
    def sigma_px(self) -> float:
        """Standard deviation of a keypoint in the heat maps, in pixels of ``image_size``."""
        return self.data.heatmap_sigma_px * self.image_size / REFERENCE_SIZE


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every setting, in the order of the dataclasses."""
    for name, value in vars(node).items():
        key = f"{prefix}{name}"
        if is_dataclass(value):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value

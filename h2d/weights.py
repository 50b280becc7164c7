"""The weights that a full experiment needs, and where they are on this machine.

Files are kept in ``$H2D_WEIGHTS``, or ``~/.cache/h2d``; models of the Hugging Face hub in the hub's own cache. The
SHA-256 sums of the files were each found in several independent public repositories.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from h2d.errors import SetupError

FOLDER_VARIABLE = "H2D_WEIGHTS"


@dataclass(frozen=True)
class WeightFile:
    """A file with an address of its own.

    Args:
        name: on the command line.
        file: its official name.
        url: where it is published.
        size: bytes.
        sha256: of its content.
        needed_by: the command that reads it.
        optional: whether it only replaces another one, so that it is fetched when it is named.
    """

    name: str
    file: str
    url: str
    size: int
    sha256: str
    needed_by: str
    optional: bool = False

    @property
    def place(self) -> Path:
        """Where it is, or has to be put."""
        return weights_folder() / self.file

    def find(self) -> Path | None:
        """Where it is, if it is there in full length."""
        return self.place if self.place.is_file() and self.place.stat().st_size == self.size else None


@dataclass(frozen=True)
class HubModel:
    """A model of the Hugging Face hub.

    Args:
        name: on the command line.
        repository: its hub id.
        weights: its weight files; safetensors, or where its owner offers none a file that is read as tensors only.
        others: patterns of the small files beside them.
        size: bytes of all, roughly.
        needed_by: the command that reads it.
        optional: see ``WeightFile``.
    """

    name: str
    repository: str
    weights: tuple[str, ...]
    others: tuple[str, ...]
    size: int
    needed_by: str
    optional: bool = False

    @property
    def url(self) -> str:
        """Its page."""
        return f"https://huggingface.co/{self.repository}"

    @property
    def place(self) -> Path:
        """Where the hub's client keeps it."""
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{self.repository.replace('/', '--')}"

    def find(self) -> Path | None:
        """The folder of its files, if all weights are there."""
        from huggingface_hub import try_to_load_from_cache

        files = [try_to_load_from_cache(self.repository, file) for file in self.weights]
        if not all(isinstance(file, str) for file in files):
            return None
        return Path(str(files[0]).removesuffix(self.weights[0]))


_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
_SAM_COMMAND = "python -m data_prep masks ... masks=sam"
_CONFIGURATION = ("*.json", "*.txt", "*.model", "*.jinja")

WEIGHTS: tuple[WeightFile | HubModel, ...] = (
    WeightFile(
        "sam-vit-h",
        "sam_vit_h_4b8939.pth",
        f"{_SAM_URL}sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        _SAM_COMMAND,
    ),
    WeightFile(
        "sam-vit-l",
        "sam_vit_l_0b3195.pth",
        f"{_SAM_URL}sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        f"{_SAM_COMMAND} sam_model=vit_l",
        optional=True,
    ),
    WeightFile(
        "sam-vit-b",
        "sam_vit_b_01ec64.pth",
        f"{_SAM_URL}sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        f"{_SAM_COMMAND} sam_model=vit_b",
        optional=True,
    ),
    HubModel(
        "llava",
        "llava-hf/llava-1.5-7b-hf",
        tuple(f"model-{part:05d}-of-00003.safetensors" for part in (1, 2, 3)),
        _CONFIGURATION,
        14_130_000_000,
        "python -m data_prep captions ... captions=llava",
    ),
    HubModel(
        "sd15",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        (
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
            "text_encoder/model.safetensors",
        ),
        ("model_index.json", "*/*.json", "tokenizer/*"),
        4_270_000_000,
        "h2d train hand, h2d train outpaint",
    ),
    HubModel(
        "controlnet",
        "lllyasviel/control_v11p_sd15_openpose",
        ("diffusion_pytorch_model.safetensors",),
        ("config.json",),
        1_445_000_000,
        "h2d train outpaint",
    ),
    HubModel(
        "clip",
        "openai/clip-vit-base-patch16",
        ("pytorch_model.bin",),
        _CONFIGURATION,
        599_000_000,
        "h2d evaluate",
    ),
    WeightFile(
        "inception",
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        95_628_359,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "h2d evaluate",
    ),
    HubModel(
        "t2i-adapter",
        "TencentARC/T2I-Adapter",
        ("models/t2iadapter_openpose_sd14v1.pth",),
        (),
        309_000_000,
        "the comparison with T2I-Adapter",
        optional=True,
    ),
    HubModel(
        "handrefiner",
        "hr16/ControlNet-HandRefiner-pruned",
        ("control_sd15_inpaint_depth_hand_fp16.safetensors",),
        (),
        723_000_000,
        "the comparison with HandRefiner",
        optional=True,
    ),
)


def weights_folder() -> Path:
    """Where weight files are kept."""
    return Path(os.environ.get(FOLDER_VARIABLE) or "~/.cache/h2d").expanduser()


def weight_file(name: str) -> Path:
    """The weight file called ``name``.

    Raises:
        SetupError: it is not on this machine; the hint says how it gets there.
    """
    weights = next(weights for weights in WEIGHTS if weights.name == name)
    place = weights.find()
    if place is None:
        hint = f"`h2d doctor --fetch {name}` downloads it from {weights.url}; {FOLDER_VARIABLE} names another folder"
        raise SetupError(f"{weights.place} does not exist or is not complete", hint)
    return place


def is_local_model(name: str) -> bool:
    """Whether loading a model asks no network: it is a folder, or the hub id of one in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).expanduser().is_dir():
        return True
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        return False
    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def sam_checkpoint(given: Path | None, model: str) -> Path:
    """SAM's checkpoint: the one that was given, or the official one of an architecture.

    Args:
        given: ``sam_checkpoint=``.
        model: ``sam_model=``; ``auto`` is the paper's ``vit_h``.

    Raises:
        SetupError: there is no such file.
    """
    if given is None:
        return weight_file(f"sam-{('vit_h' if model == 'auto' else model).replace('_', '-')}")
    if not given.is_file():
        raise SetupError(f"sam_checkpoint={given} does not exist", "masks=grabcut needs no weights")
    return given

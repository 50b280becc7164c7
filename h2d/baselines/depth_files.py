"""Hand depth maps from outside: made before by whatever program, or by a program that is called now.

The files of an image NAME.png are NAME_depth.png and NAME_mask.png, 8-bit grey and of its size; without them no hand
was found in it. HandRefiner's MeshGraphormer node, with the user's own MANO files, can write them.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from h2d.baselines.hand_depth import HandMaps
from h2d.errors import DataError, SetupError

SUFFIXES = "_depth.png", "_mask.png"


class FolderDepth:
    """Maps in a folder that also holds the images of Stable Diffusion, as PNG and under any names.

    An image is found by its pixels. So the names do not matter, and maps of other images are never taken.

    Args:
        folder: read when the first image is asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.label = f"depth maps of the folder {folder.name}"
        self._names: dict[str, Path] | None = None

    def __call__(self, images: Sequence[np.ndarray]) -> list[HandMaps | None]:
        """See :class:`h2d.baselines.hand_depth.HandDepth`."""
        if self._names is None:
            pictures = [path for path in sorted(self.folder.glob("*.png")) if not path.name.endswith(SUFFIXES)]
            self._names = {_key(_read(path, "RGB")): path for path in pictures}
        return [self._find(image, self._names) for image in images]

    def close(self) -> None:
        """See ``HandDepth``: nothing was started."""

    def _find(self, image: np.ndarray, names: dict[str, Path]) -> HandMaps | None:
        path = names.get(_key(image))
        if path is None:
            raise DataError(
                f"{self.folder} lacks an image of Stable Diffusion that has to be refined ({len(names)} others are "
                f"there)",
                "make the images with the same weights, seed, preset and machine, and the maps from their PNG files",
            )
        return read_maps(path, image.shape[0])


class CommandDepth:
    """Maps from a program of the user.

    Args:
        command: words as in a shell, which runs nothing itself; the folder with the images ``0000.png`` ... of a batch
            is added as the last one. The program writes the maps beside them.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.label = f"depth maps of `{command}`"

    def __call__(self, images: Sequence[np.ndarray]) -> list[HandMaps | None]:
        """See :class:`h2d.baselines.hand_depth.HandDepth`."""
        with tempfile.TemporaryDirectory(prefix="h2d-hands-") as folder:
            paths = [Path(folder, f"{number:04d}.png") for number in range(len(images))]
            for path, image in zip(paths, images, strict=True):
                Image.fromarray(image).save(path)
            self._run(folder)
            return [read_maps(path, image.shape[0]) for path, image in zip(paths, images, strict=True)]

    def close(self) -> None:
        """See ``HandDepth``: each program has ended."""

    def _run(self, folder: str) -> None:
        try:
            done = subprocess.run([*shlex.split(self.command), folder], capture_output=True, text=True)
        except (OSError, ValueError) as error:
            raise SetupError(f"cannot run `{self.command}`: {error}", "correct hand-depth-command") from error
        if done.returncode:
            last = next(reversed(done.stderr.strip().splitlines()), "it says nothing")
            raise SetupError(f"`{self.command}` ended with {done.returncode}: {last}", "try it on a folder of images")


def read_maps(path: Path, size: int) -> HandMaps | None:
    """The maps beside an image; None without any, which says that it shows no hand.

    Raises:
        DataError: one of the two is missing, cannot be read or has another size.
    """
    depth_path, mask_path = (path.with_name(path.stem + suffix) for suffix in SUFFIXES)
    there = [file for file in (depth_path, mask_path) if file.is_file()]
    if not there:
        return None
    if len(there) == 1:
        raise DataError(f"{there[0]} is alone", f"both of NAME{' and NAME'.join(SUFFIXES)} are needed")
    depth, mask = _read(depth_path, "L"), _read(mask_path, "L") > 127
    for file, found in ((depth_path, depth), (mask_path, mask)):
        if found.shape != (size, size):
            raise DataError(f"{file} has {found.shape[1]} x {found.shape[0]} pixels, needed {size} x {size}")
    return HandMaps(depth, mask) if mask.any() and depth.any() else None


def _read(path: Path, mode: str) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert(mode))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "write it again") from error


def _key(image: np.ndarray) -> str:
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()

"""Write rendered people to disk in HaGRID's layout, with the exact labels beside it.

    ROOT/<gesture>/<uuid>.jpg                           the pictures
    ROOT/annotations/{train,val,test}/<gesture>.json    {uuid: {"bboxes", "labels", "user_id"}}, HaGRID's own schema
    ROOT/exact/<gesture>/<uuid>.{pose.npy,hands.png,person.png,json}    what photographs never have
    ROOT/synthetic.json                                 the arguments, and whether all is written

A run that was killed continues where it stopped; a finished data set is left alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import uuid
from collections.abc import Generator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.processes import BrokenProcessPool, pool
from h2d.errors import ConfigError, DataError, SetupError
from h2d.files import write_atomic
from h2d.images import encode_jpeg, encode_png
from h2d.locks import alone_in

from .gestures import NO_GESTURE
from .labels import hand_boxes
from .person import user_of
from .rendering import Rendered, render_person
from .staging import leading_gesture

SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}
MARKER = "synthetic.json"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://arxiv.org/abs/2403.10731/synthetic-people")
_FORMAT = 1
"""Raised when the same arguments would give other pictures than before."""


@dataclass(frozen=True)
class Request:
    """The arguments that decide the content of a data set."""

    count: int
    seed: int
    size: int
    supersampling: int
    format: int = _FORMAT

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("seed", 0), ("size", 64), ("supersampling", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")

    def name(self, index: int) -> str:
        """UUID of a picture."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.seed}/{index}/{self.size}/{self.supersampling}"))

    def user_id(self, index: int) -> str:
        """Name of the person in a picture."""
        return uuid.uuid5(_NAMESPACE, f"user/{self.seed}/{user_of(index)}").hex

    def record_path(self, root: Path, index: int) -> Path:
        """The file that is written last for a picture."""
        return root / "exact" / leading_gesture(self.seed, index) / f"{self.name(index)}.json"


@dataclass(frozen=True)
class Report:
    """What a call of ``generate`` did."""

    rendered: int
    reused: int


def generate(root: Path, count: int, seed: int, size: int = 512, jobs: int = 1, *, supersampling: int = 2) -> Report:
    """Render ``count`` people into ``root``.

    Args:
        root: folder of the data set; made if missing.
        count: number of pictures.
        seed: the same seed gives the same bytes, whatever ``jobs`` is.
        size: side of the pictures in pixels.
        jobs: processes that render.
        supersampling: samples per pixel along each axis; 1 is twice as fast and has harder edges.

    Raises:
        ConfigError: an argument is out of range.
        DataError: ``root`` holds something else.
        SetupError: a rendering process was killed.
    """
    request = Request(count, seed, size, supersampling)
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, not {jobs}")
    if _is_complete(root, request):
        return _report(root, 0, count)
    with alone_in(root):
        missing = [index for index in range(count) if not request.record_path(root, index).exists()]
        with contextlib.closing(_render_all(root, request, missing, jobs)) as pictures:
            for _ in tqdm(pictures, total=len(missing), unit="picture", disable=None):
                pass
        _write_annotations(root, request)
        _write_json(root / MARKER, asdict(request) | {"complete": True})
    return _report(root, len(missing), count - len(missing))


def _report(root: Path, rendered: int, reused: int) -> Report:
    print(f"synthetic people: {rendered + reused} pictures in {root} ({rendered} rendered, {reused} already there)")
    return Report(rendered, reused)


def _is_complete(root: Path, request: Request) -> bool:
    """Claim an empty folder, or check that it was made with the same arguments."""
    marker, wanted = root / MARKER, asdict(request)
    if not marker.exists():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DataError(
                f"{root} is not an empty folder and holds no {MARKER}", "choose an empty folder for synthetic people"
            )
        _write_json(marker, wanted | {"complete": False})
        return False
    try:
        found = json.loads(marker.read_text())
        different = [
            f"{key}={found[key]} there, {key}={wanted[key]} asked" for key in wanted if found[key] != wanted[key]
        ]
        complete = bool(found["complete"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{marker} cannot be read: {error}", "delete the folder and generate it again") from error
    if different:
        hint = "choose another folder, or delete this one to generate it again"
        raise DataError(f"{root} holds synthetic people made with other arguments: {'; '.join(different)}", hint)
    return complete


def _render_all(root: Path, request: Request, indices: list[int], jobs: int) -> Generator[int, None, None]:
    if jobs == 1 or len(indices) < 2:
        for index in indices:
            yield _write_picture(root, request, index)
        return
    try:
        with pool(min(jobs, len(indices))) as executor:
            for done in as_completed([executor.submit(_write_picture, root, request, index) for index in indices]):
                yield done.result()
    except BrokenProcessPool as error:
        hint = "each needs about 400 MB; use fewer jobs and run the same command again, it continues"
        raise SetupError("a rendering process was killed", hint) from error


def _write_picture(root: Path, request: Request, index: int) -> int:
    rendered = render_person(request.seed, index, request.size, supersampling=request.supersampling)
    record = request.record_path(root, index)
    write_atomic(root / record.parent.name / f"{record.stem}.jpg", encode_jpeg(rendered.image, quality=95))
    write_atomic(record.with_suffix(".hands.png"), encode_png(rendered.hands))
    write_atomic(record.with_suffix(".person.png"), encode_png(rendered.person))
    pose = io.BytesIO()
    np.save(pose, rendered.pose, allow_pickle=False)
    write_atomic(record.with_suffix(".pose.npy"), pose.getvalue())
    _write_json(record, _record(request, index, rendered))
    return index


def _record(request: Request, index: int, rendered: Rendered) -> dict:
    boxes = hand_boxes(rendered.hands, rendered.pose)
    return {
        "index": index,
        "user_id": request.user_id(index),
        "size": [request.size, request.size],
        "gesture": rendered.gestures[rendered.lead],
        "gestures": rendered.gestures,
        "leading_hand": rendered.lead,
        "encounter": rendered.encounter,
        "boxes": {side: list(box) for side, box in boxes.items()},
        "attributes": rendered.attributes,
    }


def assign_splits(count: int, seed: int) -> list[str]:
    """Split of each picture. People are shared out, so nobody is in two splits; with 3 people no split is empty."""
    users = user_of(count - 1) + 1
    sizes = _shares(users)
    labels = np.repeat(list(SPLITS), [sizes[name] for name in SPLITS])
    of_user = np.random.default_rng([seed, 1]).permutation(labels)
    return [str(of_user[user_of(index)]) for index in range(count)]


def _shares(total: int) -> dict[str, int]:
    """Largest remainders, with at least one for each split where there are enough."""
    sizes = {name: math.floor(total * share) for name, share in SPLITS.items()}
    by_remainder = sorted(SPLITS, key=lambda name: sizes[name] - total * SPLITS[name])
    for name in by_remainder[: total - sum(sizes.values())]:
        sizes[name] += 1
    for name in SPLITS:
        if sizes[name] == 0 and sizes["train"] > 1:
            sizes[name] += 1
            sizes["train"] -= 1
    return sizes


def _write_annotations(root: Path, request: Request) -> None:
    files: dict[tuple[str, str], dict[str, dict]] = {}
    for index, split in enumerate(assign_splits(request.count, request.seed)):
        path = request.record_path(root, index)
        record = json.loads(path.read_text())
        files.setdefault((split, record["gesture"]), {})[path.stem] = _annotation(record)
    for (split, gesture), entries in sorted(files.items()):
        _write_json(root / "annotations" / split / f"{gesture}.json", dict(sorted(entries.items())))


def _annotation(record: dict) -> dict:
    """HaGRID's entry: top-left corner, width and height in [0, 1] for every hand in the frame."""
    width, height = record["size"]
    scale = (width, height, width, height)
    boxes = [
        [round(value / side, 8) for value, side in zip(box, scale, strict=True)] for box in record["boxes"].values()
    ]
    labels = [record["gestures"][side] or NO_GESTURE for side in record["boxes"]]
    return {"bboxes": boxes, "labels": labels, "user_id": record["user_id"]}


def _write_json(path: Path, value: dict) -> None:
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())

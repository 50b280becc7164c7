"""``h2d bench prep``: what finds keypoints, masks and captions; large networks in batches and picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segment_anything import SamPredictor

from h2d.annotators.device import find_device
from h2d.annotators.llava import LlavaCaptioner
from h2d.annotators.pose import HolisticPose
from h2d.annotators.prompts import Prompt, hand_prompts
from h2d.annotators.sam import Sam, load_sam, sam_model
from h2d.annotators.segment import GrabCutSegmenter
from h2d.bench.clock import by_turns, clock_of, unit_of
from h2d.bench.loading import PILLOW, decoded
from h2d.bench.report import Row, Table
from h2d.data.dataset import ShardDataset
from h2d.data.schema import Sample, decode_sample
from h2d.errors import DataError, SetupError

KEYPOINTS, GRABCUT = "keypoints, MediaPipe", "masks, GrabCut"
SAM, SAM_ALONE = "masks, SAM", "masks, SAM's predictor, one by one"
LLAVA, LLAVA_ALONE = "captions, LLaVA", "captions, LLaVA, one by one"
ONE_BY_ONE = {SAM: SAM_ALONE, LLAVA: LLAVA_ALONE}


@dataclass(frozen=True)
class PrepRequest:
    """What ``h2d bench prep`` was asked for; see its ``--help``."""

    shards: str
    sam: Path | None
    llava: str | None
    images: int
    batch: int
    rounds: int
    device: str


def bench_preparation(request: PrepRequest) -> Table:
    """Seconds of a picture for each annotator, by turns.

    Raises:
        H2DError: the shards, the weights or the device are not what they should be.
    """
    device = find_device(request.device)
    data = ShardDataset(request.shards, "train", lambda raw, draw: dict(raw))
    samples = [decode_sample(data.read(number % len(data)), person=False) for number in range(request.images)]
    ways: dict[str, Callable[[], Any]] = {}
    finder, grabcut = HolisticPose(), GrabCutSegmenter()
    ways[KEYPOINTS] = lambda: [finder.detect(sample.image) for sample in samples]
    ways[GRABCUT] = lambda: _cut(grabcut, samples)
    if request.sam is not None:
        name, network = _load_sam(request.sam)
        sam, predictor = Sam(network, name, request.device, request.batch), SamPredictor(network)
        prompts = [prompt for one in samples for prompt in hand_prompts(one.image, one.pose, sam.side).values()]
        ways[SAM] = lambda: sam.answer(prompts)
        ways[SAM_ALONE] = lambda: [_predicted(predictor, prompt) for prompt in prompts]
    if request.llava is not None:
        pictures = [sample.image for sample in samples]
        llava = LlavaCaptioner(request.llava, request.device, batch=request.batch)
        ways[LLAVA] = lambda: llava.describe(pictures)
        ways[LLAVA_ALONE] = lambda: [llava.describe([picture]) for picture in pictures]
    turns = {name: _timed(way, device, len(samples)) for name, way in ways.items()}
    turns[PILLOW] = lambda: decoded(data, np.asarray, request.images)
    timings = by_turns(turns, request.rounds)
    rows = []
    for name, timing in timings.items():
        alone = timings.get(ONE_BY_ONE.get(name, ""))
        ratio = None if alone is None else alone.median / timing.median
        decodings = timing.median / timings[PILLOW].median
        rows.append(Row(name, timing, {"pictures/s": 1 / timing.median, "decodings": decodings, "ratio": ratio}))
    size = "x".join(map(str, samples[0].image.shape[1::-1]))
    notes = [
        f"{len(samples)} pictures, the first of {size} pixels; batches of {request.batch}",
        "decodings: pictures that Pillow decodes in that time; ratio: pictures in the time of one alone",
        "`make prep-speed` measures MediaPipe in several processes",
    ]
    return Table("picture", unit_of(device), rows, notes)


def _load_sam(path: Path) -> tuple[str, Any]:
    """Architecture and network of a checkpoint."""
    if not path.is_file():
        raise SetupError(f"--sam {path} does not exist", "`h2d doctor --fetch sam-vit-h` downloads one")
    try:
        name = sam_model(path)
    except SetupError as error:
        raise SetupError(
            error.message, "call the file as SAM does: its name has to hold vit_h, vit_l or vit_b"
        ) from error
    return name, load_sam(path, name)


def _timed(way: Callable[[], Any], device: torch.device, count: int) -> Callable[[], Sequence[float]]:
    """Seconds of a picture; the first call, which loads and warms up, is made here."""
    way()

    def measured() -> list[float]:
        now = clock_of(device)
        start = now()
        way()
        return [(now() - start) / count]

    return measured


def _cut(segmenter: GrabCutSegmenter, samples: Sequence[Sample]) -> None:
    for sample in samples:
        with suppress(DataError):  # a mask that is not credible has taken its time, too
            segmenter.segment(sample.image, sample.pose)


def _predicted(predictor: SamPredictor, prompt: Prompt) -> Any:
    """The answer of SAM's own predictor to the question that h2d asks."""
    predictor.set_image(prompt.picture)
    return predictor.predict(prompt.points, prompt.labels, box=prompt.box, multimask_output=False)

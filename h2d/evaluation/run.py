"""``h2d evaluate``: systems on a split of the data, with everything that belongs to the numbers."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from h2d.data.dataset import ShardDataset
from h2d.data.shards import read_manifests
from h2d.detection import PoseDetector
from h2d.errors import DataError
from h2d.evaluation.candidates import Candidate, own_device
from h2d.evaluation.comparison import check_alike, compare, footnotes
from h2d.evaluation.loop import Finder
from h2d.evaluation.making import Making
from h2d.evaluation.numbers import measure_store
from h2d.evaluation.page import write_page
from h2d.evaluation.records import PROTOCOL, SETTINGS, agree, protocol_of, read_record, settings_of
from h2d.evaluation.report import NUMBERS, number_table, read_report, write_report
from h2d.evaluation.rows import PARTS, Store
from h2d.evaluation.selection import Selection, select
from h2d.experiment import Experiment
from h2d.locks import Claims, sharing
from h2d.metrics.image_suite import ImageNetworks
from h2d.runs import run_folder


def run_evaluation(
    experiment: Experiment,
    systems: Sequence[Candidate],
    left_out: Collection[str] = (),
    limit: int | None = None,
) -> str:
    """Evaluate systems one after the other, each in a folder of its own below the run's.

    An evaluation that was killed goes on, one that is complete is read, and several processes that run the same command
    at the same time share the work.

    Args:
        experiment: names the data, the split, the sampling and the run.
        systems: what is evaluated.
        left_out: systems that lack weights, for the text.
        limit: evaluate that many of the samples at most.

    Returns:
        The numbers as a table, to print.

    Raises:
        ConfigError: a folder holds an evaluation with other settings.
        DataError: the split has not the samples that are asked for.
        H2DError: see :meth:`Candidate.load`; or the data is not what it should be.
    """
    data = _split(experiment)
    selection = select(data, experiment.evaluation, limit)
    folder, experiment = run_folder(experiment), _of_one_size(experiment, systems)
    if absent := ImageNetworks.absent(experiment.metrics.foreground):
        names = " ".join(absent)
        print(f"not on this machine, and not measured with: {names} (`h2d doctor --fetch {names}`)", file=sys.stderr)
    with _detector(experiment) as detector:
        for system in systems:
            _evaluate(system, experiment, data, selection, detector, folder / system.name)
    folders = [folder / system.name for system in systems]
    text = compare(folders) if len(folders) > 1 else _alone(read_report(folders[0]))
    others = [f"left out, since weights are missing (see `h2d doctor`): {', '.join(left_out)}"] if left_out else []
    page = write_page(folder, folders + _alike(folder, folders), data)
    return "\n".join([text, *others, *(str(one / NUMBERS) for one in folders), str(page)])


def _evaluate(
    system: Candidate,
    experiment: Experiment,
    data: ShardDataset,
    selection: Selection,
    detector: Finder | None,
    folder: Path,
) -> None:
    with sharing(folder, PARTS), Claims(folder) as claims:
        settings = settings_of(system, experiment, selection)
        agree(folder / SETTINGS, settings)
        store = Store(folder)
        making = Making(store, data, selection, experiment)
        if making.open_batches() or not (folder / PROTOCOL).is_file():
            (folder / NUMBERS).unlink(missing_ok=True)
            sampler = system.load(experiment, data)
            agree(folder / PROTOCOL, protocol_of(system, sampler))
            making.run(sampler, detector, claims)
        claims.take(len(selection.batches), wait=True)  # one process works out the numbers
        absent = ImageNetworks.absent(experiment.metrics.foreground)
        if not _is_measured(folder, absent):
            protocol = settings["measured"] | settings["data"] | read_record(folder / PROTOCOL) | {"absent": absent}
            with ImageNetworks.load(own_device(), experiment.metrics.foreground) as networks:
                outcome = measure_store(store, data, selection, protocol, experiment.metrics, networks)
            write_report(store, outcome, selection.numbers)


def _is_measured(folder: Path, absent: Sequence[str]) -> bool:
    """Whether there are numbers, and no network has come to this machine that they were measured without."""
    if not (folder / NUMBERS).is_file():
        return False
    lacked = read_report(folder)["protocol"].get("absent", [])
    return set(lacked) <= set(absent)


def _of_one_size(experiment: Experiment, systems: Sequence[Candidate]) -> Experiment:
    """The experiment with the size of the pipeline's pictures, where there is a pipeline."""
    size = next((system.size for system in systems if system.size is not None), experiment.image_size)
    return replace(experiment, image_size=size)


def _alone(report: dict[str, Any]) -> str:
    return "\n".join([number_table(report), *footnotes([report])])


def _detector(experiment: Experiment) -> AbstractContextManager[PoseDetector | None]:
    settings = experiment.evaluation
    if settings.detector == "none":
        return nullcontext()
    return PoseDetector(experiment.metrics.detect_size, settings.detector_jobs)


def _alike(folder: Path, folders: Sequence[Path]) -> list[Path]:
    """Evaluations of other systems in the run's folder that can stand beside these."""
    reference, alike = read_report(folders[0]), []
    for other in sorted(path.parent for path in folder.glob(f"*/{NUMBERS}")):
        with suppress(DataError):
            check_alike({folders[0]: reference, other: read_report(other)})
            alike += [other] * (other not in folders)
    return alike


def _split(experiment: Experiment) -> ShardDataset:
    settings, shards = experiment.evaluation, experiment.data.shards
    counts = read_manifests(shards).counts
    if settings.split not in counts:
        raise DataError(f"{shards} has no split {settings.split!r}", f"evaluation.split={' or '.join(counts)}")
    return ShardDataset(shards, settings.split, lambda raw, draw: dict(raw))

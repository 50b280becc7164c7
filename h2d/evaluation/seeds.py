"""Evaluations that differ in their seed alone as one row of a table: mean and standard deviation over the seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from h2d.errors import DataError
from h2d.evaluation.comparison import check_alike, columns, footnotes, system_of
from h2d.evaluation.report import read_report, shown

Report = Mapping[str, Any]


def compare_seeds(folders: Sequence[Path]) -> str:
    """A Markdown table with a row for each system; ``-`` where a number could not be measured with every seed.

    Args:
        folders: of evaluations, each of one system with one seed.

    Raises:
        DataError: a folder holds no evaluation, two were measured differently, or a system lacks a seed.
    """
    reports, groups = _read(folders)
    names = [name for name in columns(list(reports.values())) if name != "n"]
    rows = [["method", *names], ["---"] * (len(names) + 1)]
    for label, group in groups.items():
        rows.append([label, *(_spread([reports[folder].get(name) for folder in group.values()]) for name in names)])
    first = [reports[next(iter(group.values()))] for group in groups.values()]
    seeds = ", ".join(map(str, sorted(next(iter(groups.values())))))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    notes = footnotes(first, list(groups))
    return "\n".join([*lines, "", f"mean ± standard deviation over the seeds {seeds}", *notes])


def of_first_seed(folders: Sequence[Path]) -> dict[str, Path]:
    """The evaluation of each system that has the lowest seed, by the label of its row.

    Raises:
        DataError: see :func:`compare_seeds`.
    """
    _, groups = _read(folders)
    return {label: group[min(group)] for label, group in groups.items()}


def _read(folders: Sequence[Path]) -> tuple[dict[Path, Report], dict[str, dict[int, Path]]]:
    """The reports, and the folders of each system by seed, under the system's label."""
    reports = {folder: _without_seed(read_report(folder)) for folder in folders}
    check_alike(reports)
    groups = _groups(reports)
    return reports, dict(zip(_labels(list(groups)), groups.values(), strict=True))


def _without_seed(report: Report) -> Report:
    """The report with its seed beside the protocol, in which evaluations have to agree."""
    protocol = dict(report["protocol"])
    return {**report, "seed": protocol.pop("seed", None), "protocol": protocol}


def _groups(reports: Mapping[Path, Report]) -> dict[tuple[str, str], dict[int, Path]]:
    """Folders of a system by seed; a system is its name and, where it has one, its pipeline."""
    groups: dict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
    for folder, report in reports.items():
        key, seed = (system_of(report), str(report["protocol"].get("pipeline") or "")), report["seed"]
        if seed in groups[key]:
            raise DataError(f"{' '.join(key).strip()} comes twice with seed {seed}", "name each evaluation once")
        groups[key][seed] = folder
    asked = {seed for seeds in groups.values() for seed in seeds}
    for key, seeds in groups.items():
        if lacking := sorted(asked - set(seeds)):
            raise DataError(f"{' '.join(key).strip()} lacks seed {lacking[0]}", "evaluate all systems with all seeds")
    return groups


def _labels(keys: Sequence[tuple[str, str]]) -> list[str]:
    """The name of the system, with that of its pipeline's folder where several are of one system."""
    systems = [system for system, _ in keys]
    return [system if systems.count(system) == 1 else f"{system}, {Path(folder).name}" for system, folder in keys]


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return shown(None)
    return shown(float(mean(known))) + (f" ± {shown(stdev(known))}" if len(known) > 1 else "")

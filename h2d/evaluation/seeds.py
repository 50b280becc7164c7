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
    reports = {folder: _without_seed(read_report(folder)) for folder in folders}
    check_alike(reports)
    groups = _groups(list(reports.values()))
    labels = _labels(list(groups))
    names = [name for name in columns(list(reports.values())) if name != "n"]
    rows = [["method", *names], ["---"] * (len(names) + 1)]
    for label, group in zip(labels, groups.values(), strict=True):
        rows.append([label, *(_spread([report.get(name) for report in group.values()]) for name in names)])
    first = [next(iter(group.values())) for group in groups.values()]
    seeds = ", ".join(map(str, sorted(next(iter(groups.values())))))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", f"mean ± standard deviation over the seeds {seeds}", *footnotes(first, labels)])


def _without_seed(report: Report) -> dict[str, Any]:
    """The report with its seed beside the protocol, in which evaluations have to agree."""
    protocol = dict(report["protocol"])
    return {**report, "seed": protocol.pop("seed", None), "protocol": protocol}


def _groups(reports: Sequence[Report]) -> dict[tuple[str, str], dict[int, Report]]:
    """Reports of a system by seed; a system is its name and, where it has one, its pipeline."""
    groups: dict[tuple[str, str], dict[int, Report]] = defaultdict(dict)
    for report in reports:
        key, seed = (system_of(report), str(report["protocol"].get("pipeline") or "")), report["seed"]
        if seed in groups[key]:
            raise DataError(f"{' '.join(key).strip()} comes twice with seed {seed}", "name each evaluation once")
        groups[key][seed] = report
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

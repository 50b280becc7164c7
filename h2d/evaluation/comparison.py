"""Several evaluations in one table: ``h2d compare``, and the end of ``h2d evaluate`` with several systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from h2d.errors import DataError
from h2d.evaluation.report import flat, read_report, shown
from h2d.metrics.suite import MAIN_KEYS

SAME = ("split", "content", "selection", "image_size", "seed", "metrics")
"""Facts of the protocol in which evaluations have to agree to be compared."""
BESIDE = (
    *("detection_rate_hands", "border_contrast", "border_contrast_real"),
    *("fid_fg_selfie", "kid_fg_selfie"),  # of foregrounds that were not cut out by SAM
    "fd_latents",
)
"""Numbers that tables show after the main ones, where they were measured."""
HIGHER = ("dap", "dap_hands", "detection_rate", "detection_rate_hands", "mask_iou", "clipsim")
"""Numbers that are better when they are higher."""
LOWER = (
    *("mpjpe", "mpjpe_hands", "fid", "kid", "kid_x1000", "fid_fg", "kid_fg"),
    *("fid_fg_selfie", "kid_fg_selfie", "fd_latents"),
)
"""Numbers that are better when they are lower."""


class Missing(NamedTuple):
    """Numbers that the same systems lack for the same reason; systems by their place among the reports."""

    names: tuple[str, ...]
    reason: str
    systems: tuple[int, ...]


def compare(folders: Sequence[Path]) -> str:
    """A Markdown table with a row for each evaluation; ``-`` where a number could not be measured.

    Args:
        folders: of evaluations, each of one system.

    Raises:
        DataError: a folder holds no evaluation, or two were measured differently.
    """
    reports = {folder: read_report(folder) for folder in folders}
    check_alike(reports)
    names = columns(list(reports.values()))
    rows = [["method", *names], ["---"] * (len(names) + 1)]
    labels = labels_of(reports)
    rows += [
        [label, *(shown(report.get(name)) for name in names)]
        for label, report in zip(labels, reports.values(), strict=True)
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *footnotes(list(reports.values()), labels)])


def by_label(folders: Sequence[Path]) -> dict[str, Path]:
    """The evaluations by the labels of their rows.

    Raises:
        DataError: see :func:`compare`.
    """
    reports = {folder: read_report(folder) for folder in folders}
    return dict(zip(labels_of(reports), reports, strict=True))


def labels_of(reports: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """A name for each evaluation: that of its system, with its folder where several are of one."""
    names = [system_of(report) for report in reports.values()]
    return [name if names.count(name) == 1 else f"{name} {folder}" for name, folder in zip(names, reports, strict=True)]


def columns(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """The main numbers that at least one evaluation has, in order."""
    return [name for name in (*MAIN_KEYS, *BESIDE) if any(report.get(name) is not None for report in reports)]


def footnotes(reports: Sequence[Mapping[str, Any]], labels: Sequence[str] = ()) -> list[str]:
    """What belongs under a table: the protocol that all share, where sampling differs, and why numbers are missing."""
    labels = labels or [system_of(report) for report in reports]
    lines = ["protocol: " + ", ".join(f"{key} {value}" for key, value in shared_choices(reports))]
    samplings = [dict(flat(report["protocol"].get("sampling", {}))) for report in reports]
    for key in sorted({key for sampling in samplings for key in sampling}):
        values = {label: sampling[key] for label, sampling in zip(labels, samplings, strict=True) if key in sampling}
        if len(set(map(str, values.values()))) > 1:
            lines.append(f"sampling.{key}: " + ", ".join(f"{value} ({label})" for label, value in values.items()))
    for names, reason, systems in missing(reports):
        some = f" ({', '.join(labels[place] for place in systems)})" if len(systems) < len(reports) else ""
        lines.append(f"not measured: {', '.join(names)}: {reason}{some}")
    return lines


def shared_choices(reports: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """Dotted key and value of everything in which the evaluations had to agree."""
    protocol = reports[0]["protocol"]
    return list(flat({key: protocol[key] for key in SAME if key in protocol}))


def missing(reports: Sequence[Mapping[str, Any]]) -> list[Missing]:
    """Why numbers could not be measured, each reason once."""
    systems: dict[tuple[str, str], list[int]] = {}
    for name in (*MAIN_KEYS, *BESIDE):
        for place, report in enumerate(reports):
            if (reason := report.get("skipped", {}).get(name)) is not None:
                systems.setdefault((name, reason), []).append(place)
    names: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (name, reason), places in systems.items():
        names.setdefault((reason, tuple(places)), []).append(name)
    return [Missing(tuple(group), reason, places) for (reason, places), group in names.items()]


def leaders(name: str, values: Sequence[float | None]) -> list[bool]:
    """Which values of a number are the best as a table shows them; none where they are all the same or just one."""
    known = [value for value in values if value is not None]
    if name not in (*HIGHER, *LOWER) or len({shown(value) for value in known}) < 2:
        return [False] * len(values)
    best = shown(max(known) if name in HIGHER else min(known))
    return [value is not None and shown(value) == best for value in values]


def system_of(report: Mapping[str, Any]) -> str:
    """The name of the system in a table, with its preset."""
    protocol = report["protocol"]
    return f"{protocol.get('method')} ({preset})" if (preset := protocol.get("preset")) else str(protocol.get("method"))


def check_alike(reports: Mapping[Path, Mapping[str, Any]]) -> None:
    """Refuse to compare what was measured differently.

    Raises:
        DataError: naming two evaluations and the fact in which they differ.
    """
    (first, reference), *others = reports.items()
    for folder, report in others:
        for key in ("n", *SAME):
            one, two = (r["n"] if key == "n" else r["protocol"].get(key) for r in (reference, report))
            if one != two:
                raise DataError(
                    f"{first} and {folder} cannot be compared: {key} is {one} and {two}", "evaluate both alike"
                )

"""How fast MediaPipe finds keypoints in one process and in several, and how much memory a process takes in the end.

    python -m data_prep.measure_keypoints ROOT [jobs=2] [images=400] [rounds=3]

``ROOT`` is any folder of photographs; they are used over and over. The rounds alternate between one process on one
core, one process that may use every core (MediaPipe looks at face and hands in threads), and ``jobs`` processes,
because the speed of a machine drifts; a rate counts from the first finished chunk of every process, so that what
starting costs is left out. Run it on an idle machine.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from data_prep import index, keypoints
from data_prep.job import Job
from data_prep.processes import in_processes
from data_prep.settings import Settings
from data_prep.stage import Task, close_workers, rescue, work
from h2d.annotators.pose import HolisticPose
from h2d.errors import ConfigError, H2DError
from h2d.images import load_image

CHUNK = 8
WARM_UP = 10
"""Images after which memory is first looked at: the graph allocates most of it on the first few."""


def rate(job: Job, images: int, processes: int) -> float:
    """Images a second of the stage ``keypoints`` in so many processes."""
    rows = list(itertools.islice(itertools.cycle(job.rows()), images))
    tasks = [Task(keypoints.STAGE, job, n, tuple(rows[n : n + CHUNK])) for n in range(0, images, CHUNK)]
    done: list[tuple[float, int]] = []
    with contextlib.closing(in_processes(work, tasks, processes, rescue)) as results:
        done += [(time.perf_counter(), len(task.rows)) for task, _ in results]
    close_workers()
    warm = done[2 * processes - 1 :]
    return sum(count for _, count in warm[1:]) / (warm[-1][0] - warm[0][0])


def one_core(job: Job, images: int) -> float:
    """The rate of one process that has one core, as each of as many processes as cores has."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        return rate(job, images, 1)
    finally:
        os.sched_setaffinity(0, cores)


def memory_growth(paths: list[Path], images: int) -> float:
    """Growth of a process's resident memory in MiB from image ``WARM_UP`` to image ``images``, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_memory_growth, (paths, images))


def _memory_growth(paths: list[Path], images: int) -> float:
    before = 0.0
    with HolisticPose() as finder:
        for number, path in enumerate(itertools.islice(itertools.cycle(paths), images), 1):
            finder.detect(load_image(path))
            if number == WARM_UP:
                before = _resident()
    return _resident() - before


def _resident() -> float:
    """MiB of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main(words: list[str]) -> None:
    """Print the figures."""
    options = {"jobs": 2, "images": 400, "rounds": 3}
    if not words or not Path(words[0]).is_dir():
        raise ConfigError("the first word has to be a folder of photographs", __doc__.strip().splitlines()[2].strip())
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in options or not value.isdigit() or int(value) < 1:
            raise ConfigError(f"{word!r} is none of {', '.join(f'{key}=NUMBER' for key in options)}")
        options[name] = int(value)
    jobs, images = options["jobs"], options["images"]
    with tempfile.TemporaryDirectory() as out:
        job = Job("folder", Settings(), Path(words[0]), Path(out))
        index.run(job)
        rounds = [
            (one_core(job, images), rate(job, images, 1), rate(job, images, jobs)) for _ in range(options["rounds"])
        ]
        growth = memory_growth([job.root / row.image for row in job.rows()], max(images, 500))
    for core, free, several in rounds:
        print(
            f"images/s: {core:.1f} by one process on one core, {free:.1f} by one process on any core,"
            f" {several:.1f} by {jobs} processes"
        )
    ratios = [statistics.median(several / row[place] for *row, several in rounds) for place in (0, 1)]
    print(f"{jobs} processes to one, median: {ratios[0]:.2f} on one core, {ratios[1]:.2f} on any core")
    print(f"memory of a process from image {WARM_UP} to {max(images, 500)}: {growth:+.0f} MiB")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except H2DError as error:
        print(f"error: {error.message}\n  hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)

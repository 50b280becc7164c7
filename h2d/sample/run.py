"""The command from its request to its files."""

from __future__ import annotations

from pathlib import Path

from h2d.errors import DataError
from h2d.sample.images import choose_device, generate
from h2d.sample.jobs import prepare
from h2d.sample.request import SampleRequest


def sample(request: SampleRequest) -> list[Path]:
    """Generate and write, for each pose, ``result.png`` and ``stages.png`` (what each stage saw and made).

    Before the first image there are ``pose.png``, to be looked at, and ``pose.json``; ``sample.json`` holds every
    setting. With several poses each has a folder, with several images of a pose their names end in their seeds.

    Returns:
        The images, or the pictures of the poses where nothing else is asked for.

    Raises:
        H2DError: the pipeline or a pose is not what it should be, or an option does not fit. Of several poses the
            others are done first.
    """
    device = choose_device(request)
    jobs, refused = prepare(request)
    done = [job.folder / "pose.png" for job in jobs]
    if jobs and not request.pose_only:
        done = generate(request, jobs, device)
    if refused:
        raise DataError("\n".join(error.message for error in refused), refused[0].hint)
    return done

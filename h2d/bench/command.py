"""``h2d bench`` in the argument tree."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from h2d.arguments import command, takes_overrides

if TYPE_CHECKING:
    from h2d.bench.report import Table


def add_bench(commands: argparse._SubParsersAction) -> None:
    """Add the command and its sub-commands to the tree."""
    parser = commands.add_parser("bench", help="measure speed", description="measure speed")
    benches = parser.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
    parser = command(benches, "train", _train, "an optimiser step of h2d, of a bare loop, and of diffusers' own script")
    add = parser.add_argument
    add("experiment", help="of stage I or II: name in configs/, or a YAML file")
    add("--latents", metavar="DIR", help="also with latents that `h2d data latents` made")
    add("--against", type=Path, metavar="PATH", help="checkout of diffusers, whose training script is run unmodified")
    add("--steps", type=int, default=10, help="of a turn, after three to warm up (%(default)s)")
    _add_turns(parser)
    takes_overrides(parser)
    parser = command(benches, "data", _data, "training samples that one core loads in a second")
    add = parser.add_argument
    add("experiment", help="of stage I or II: name in configs/, or a YAML file")
    add("--latents", metavar="DIR", help="also with latents that `h2d data latents` made")
    add("--samples", type=int, default=128, metavar="N", help="of a turn (%(default)s)")
    _add_turns(parser)
    takes_overrides(parser)
    parser = command(benches, "prep", _prep, "keypoints, masks and captions, in batches and picture by picture")
    add = parser.add_argument
    add("shards", help="folder whose pictures are used")
    add("--sam", type=Path, metavar="FILE", help="also SAM, with the weights of such a file as sam_vit_h_4b8939.pth")
    add("--llava", metavar="MODEL", help="also LLaVA, from a folder or a hub id")
    add("--images", type=int, default=16, metavar="N", help="of a turn (%(default)s)")
    add("--batch", type=int, default=8, metavar="N", help="pictures that SAM and LLaVA see at once (%(default)s)")
    add("--device", default="auto", help="of SAM and LLaVA: cpu, cuda, cuda:1 or auto (%(default)s)")
    _add_turns(parser)
    parser = command(benches, "sample", _sample, "images in one batch against one by one, both stages, same seeds")
    add = parser.add_argument
    add("--pipeline", type=Path, required=True, metavar="DIR", help="folder that `h2d export` wrote, or a hub id")
    add("--images", type=int, default=16, metavar="N", help="in the batch, with two hands each (%(default)s)")
    add("--steps", type=int, default=10, help="denoising steps of each stage (%(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1 or auto (%(default)s)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the networks (%(default)s)")
    _add_turns(parser)


def _add_turns(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="of all ways, by turns (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the figures there, too")


def _train(options: argparse.Namespace) -> None:
    from h2d.config import compose
    from h2d.quiet import quiet_libraries

    experiment = compose(options.experiment, options.overrides).experiment
    quiet_libraries()
    from h2d.bench.clock import at_least_one
    from h2d.bench.training import TrainRequest, bench_training

    at_least_one(steps=options.steps, rounds=options.rounds)
    latents = options.latents or experiment.data.latents
    _show(bench_training(TrainRequest(experiment, latents, options.against, options.steps, options.rounds)), options)


def _data(options: argparse.Namespace) -> None:
    from h2d.config import compose
    from h2d.quiet import quiet_libraries

    experiment = compose(options.experiment, options.overrides).experiment
    quiet_libraries()
    from h2d.bench.clock import at_least_one
    from h2d.bench.loading import bench_loading
    from h2d.networks.base import load_frozen

    at_least_one(samples=options.samples, rounds=options.rounds)
    latents, factor = options.latents or experiment.data.latents, load_frozen(experiment.model.base).factor
    _show(bench_loading(experiment, factor, latents, options.samples, options.rounds), options)


def _prep(options: argparse.Namespace) -> None:
    from h2d.quiet import quiet_libraries

    quiet_libraries()
    from h2d.bench.clock import at_least_one
    from h2d.bench.preparation import PrepRequest, bench_preparation

    names = ("images", "batch", "rounds")
    at_least_one(**{name: getattr(options, name) for name in names})
    request = PrepRequest(**{name: getattr(options, name) for name in ("shards", "sam", "llava", "device", *names)})
    _show(bench_preparation(request), options)


def _show(table: Table, options: argparse.Namespace) -> None:
    print(table)
    if options.json:
        table.write(options.json)


def _sample(options: argparse.Namespace) -> None:
    from h2d.quiet import quiet_libraries

    quiet_libraries()
    from h2d.bench.clock import at_least_one
    from h2d.bench.sampling import bench_sampling

    at_least_one(images=options.images, steps=options.steps, rounds=options.rounds)
    made = (options.pipeline, options.images, options.steps, options.rounds, options.device, options.dtype)
    _show(bench_sampling(*made), options)

"""``h2d bench`` in the argument tree."""

from __future__ import annotations

import argparse
from pathlib import Path

from h2d.arguments import command


def add_bench(commands: argparse._SubParsersAction) -> None:
    """Add the command and its sub-commands to the tree."""
    parser = commands.add_parser("bench", help="measure speed", description="measure speed")
    benches = parser.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
    parser = command(benches, "sample", _sample, "images in one batch against one by one, both stages, same seeds")
    add = parser.add_argument
    add("--pipeline", type=Path, required=True, metavar="DIR", help="folder that `h2d export` wrote, or a hub id")
    add("--images", type=int, default=16, metavar="N", help="in the batch, with two hands each (%(default)s)")
    add("--steps", type=int, default=10, help="denoising steps of each stage (%(default)s)")
    add("--rounds", type=int, default=3, help="of both, by turns, after one to warm up (%(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1 or auto (%(default)s)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the networks (%(default)s)")


def _sample(options: argparse.Namespace) -> None:
    from h2d.quiet import quiet_libraries

    quiet_libraries()
    from h2d.bench.sampling import measure

    print(measure(options.pipeline, options.images, options.steps, options.rounds, options.device, options.dtype))

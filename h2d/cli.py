"""The ``h2d`` command: its argument tree, and the only place that prints errors and chooses the exit code.

A command imports what it needs when it runs, so that ``h2d --help`` and the config commands answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from h2d import __version__
from h2d.arguments import command, overrides_of, takes_overrides
from h2d.bench.command import add_bench
from h2d.errors import ConfigError, H2DError, SetupError
from h2d.inspect_commands import add_config, add_data, add_doctor
from h2d.sample.command import add_sample
from h2d.stopping import StoppedError, hold_requests

EXAMPLES = """\
examples:
  h2d train hand preset=tiny data.shards=data/shards run.name=my-hands
  h2d train hand data.shards=data/shards trainer.devices=4 --resume auto
  h2d export --hand runs/hand/checkpoints/last.ckpt --outpaint runs/outpaint/checkpoints/last.ckpt --out pipeline
  h2d sample --pipeline pipeline --pose photograph.jpg --prompt "a person waves" --out samples
  h2d evaluate evaluate --pipeline pipeline data.shards=data/shards
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        0 done, 1 failed, 2 the input is wrong, 75 stopped by a batch system and to be started again, 130 interrupted.
    """
    # Threads that wait for each other in an endless busy loop slow training down several times when the cores have
    # other work; those that sleep at once, by half when they have none. A short busy loop is good in both cases.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    parser = build_parser()
    options, leftovers = parser.parse_known_args(arguments)
    try:
        options.overrides = overrides_of(options, leftovers)
        options.command(options)
    except StoppedError as stop:
        print(stop.message, file=sys.stderr)
        return stop.exit_code
    except H2DError as error:
        if options.debug:
            raise
        _print_error(error)
        return error.exit_code
    except PermissionError as error:
        if options.debug:
            raise
        _print_error(SetupError(f"{error.filename}: permission denied"))
        return 2
    except KeyboardInterrupt:
        again = "; --resume auto goes on from the last checkpoint, where there is one" if "resume" in options else ""
        again = "; the same command goes on" if "method" in options else again
        print(f"interrupted{again}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        sys.stderr.close()
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The whole tree of commands and options."""
    parser = argparse.ArgumentParser(
        prog="h2d",
        description="Two-stage generation of people with exact hands.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"h2d {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_train,
        add_sample,
        _add_evaluate,
        _add_compare,
        _add_export,
        add_bench,
        add_config,
        add_data,
        add_doctor,
    ):
        add(commands)
    return parser


def _print_error(error: H2DError) -> None:
    for line in error.message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = command(commands, "train", _train, "train a stage: hand, outpaint, or a part of the tiny base model")
    parser.add_argument("experiment", help="name in configs/, or a YAML file")
    parser.add_argument(
        "--resume", default="never", metavar="auto|never|CKPT", help="what to continue from (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print settings, data and sizes, and train nothing")
    takes_overrides(parser)


def _train(options: argparse.Namespace) -> None:
    from h2d.config import compose, to_yaml
    from h2d.runs import run_folder
    from h2d.slurm import Task, check_job, one_voice

    if not options.dry_run and Task.read():
        hold_requests()
    with one_voice():
        experiment, origins = compose(options.experiment, options.overrides)
        if options.dry_run:
            print(to_yaml(experiment, origins))
        else:
            check_job(experiment, run_folder(experiment))
        from h2d.quiet import quiet_libraries

        quiet_libraries()
        if options.dry_run:
            from h2d.plan import describe

            print(describe(experiment, options.resume))
        else:
            from h2d.train import train

            train(experiment, options.resume)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = command(commands, "evaluate", _evaluate, "measure a pipeline and its rivals on a split of the data")
    parser.add_argument("experiment", help="name in configs/, or a YAML file")
    add = parser.add_argument
    add("--pipeline", metavar="DIR", help="folder that `h2d export` wrote, or a hub id")
    add(
        "--method",
        metavar="NAME,...",
        help="in place of evaluation.methods: all; h2d, or its strategies sequential, naive, bbox; compared systems "
        "(see `h2d doctor`); real, without-hands, blurred, shifted, shuffled photographs",
    )
    add("--limit", type=int, metavar="N", help="a quick look at N samples")
    add(
        "--preset",
        choices=("uniform", "native"),
        default="uniform",
        help="settings of a compared system: one for all, or those its authors publish (%(default)s)",
    )
    add("--place", action="append", default=[], metavar="KEY=PATH", help="where weights of a compared system are")
    takes_overrides(parser)


def _evaluate(options: argparse.Namespace) -> None:
    from h2d.config import compose

    experiment = compose(options.experiment, options.overrides).experiment
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit {options.limit} leaves no sample", "a number from 1 on")
    from h2d.evaluation.candidates import candidates
    from h2d.evaluation.run import run_evaluation
    from h2d.quiet import quiet_libraries

    quiet_libraries()
    for place in options.place:
        if "=" not in place:
            raise ConfigError(f"--place {place} is not KEY=PATH", "such as --place humansd=/models/humansd-v1.ckpt")
    places = dict(place.split("=", 1) for place in options.place)
    methods = options.method or experiment.evaluation.methods
    systems, left_out = candidates(methods, options.pipeline, options.preset, places)
    print(run_evaluation(experiment, systems, left_out, options.limit))


def _add_compare(commands: argparse._SubParsersAction) -> None:
    parser = command(commands, "compare", _compare, "print several evaluations as one table")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="RUN/SYSTEM of an `h2d evaluate`")
    parser.add_argument("--seeds", action="store_true", help="one row for evaluations that differ in their seed alone")
    parser.add_argument("--pictures", type=Path, metavar="FILE", help="PNG or JPEG: the pictures side by side")
    parser.add_argument("--count", type=int, default=4, metavar="N", help="of the first N samples (%(default)s)")


def _compare(options: argparse.Namespace) -> None:
    from h2d.evaluation.beside import write_pictures
    from h2d.evaluation.comparison import by_label, compare
    from h2d.evaluation.seeds import compare_seeds, of_first_seed

    print((compare_seeds if options.seeds else compare)(options.runs))
    if options.pictures is not None:
        systems = (of_first_seed if options.seeds else by_label)(options.runs)
        write_pictures(systems, options.pictures, options.count)
        print(options.pictures)


def _add_export(commands: argparse._SubParsersAction) -> None:
    parser = command(commands, "export", _export, "join two checkpoints into a pipeline folder")
    parser.add_argument("--hand", type=Path, required=True, metavar="CKPT", help="checkpoint of stage I")
    parser.add_argument("--outpaint", type=Path, required=True, metavar="CKPT", help="checkpoint of stage II")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"), help="of the weights")


def _export(options: argparse.Namespace) -> None:
    from h2d.export import export
    from h2d.quiet import quiet_libraries

    quiet_libraries()
    print(export(options.hand, options.outpaint, options.out, options.dtype))

"""The ``h2d`` command: its argument tree, and the only place that prints errors and chooses the exit code.

A command imports what it needs when it runs, so that ``h2d --help`` and the config commands answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from h2d import __version__
from h2d.errors import ConfigError, H2DError, SetupError

EXAMPLES = """\
examples:
  h2d train hand preset=tiny data.shards=data/shards run.name=my-hands
  h2d train hand data.shards=data/shards trainer.devices=4 --resume auto
  h2d export --hand runs/hand/checkpoints/last.ckpt --outpaint runs/outpaint/checkpoints/last.ckpt --out pipeline
  h2d sample --pipeline pipeline --pose photograph.jpg --prompt "a person waves" --out samples
  h2d evaluate evaluate --pipeline pipeline data.shards=data/shards
"""

Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        0 done, 1 failed, 2 the input is wrong, 130 interrupted.
    """
    # Threads that wait for each other in an endless busy loop slow training down several times when the cores have
    # other work; those that sleep at once, by half when they have none. A short busy loop is good in both cases.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    parser = build_parser()
    options, leftovers = parser.parse_known_args(arguments)
    try:
        options.overrides = _overrides(options, leftovers)
        options.command(options)
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
    for add in (_add_train, _add_sample, _add_evaluate, _add_export, _add_config, _add_data, _add_doctor):
        add(commands)
    return parser


def _command(commands: argparse._SubParsersAction, name: str, run: Command, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    # SUPPRESS: without it, a sub-command's default would undo `h2d --debug COMMAND`.
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(command=run, takes_overrides=False)
    return parser


def _takes_overrides(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(takes_overrides=True)
    parser.usage = f"{parser.format_usage().removeprefix('usage: ').rstrip()} [key=value ...]"


def _overrides(options: argparse.Namespace, leftovers: Sequence[str]) -> list[str]:
    """``key=value`` pairs from what argparse left over; anything else there is a mistake."""
    for item in leftovers:
        if item.startswith("-"):
            name = item.lstrip("-").partition("=")[0]
            raise ConfigError(f"unknown option {item}", f"did you mean {name}=VALUE? settings take no dashes")
        if not options.takes_overrides or "=" not in item:
            raise ConfigError(f"unexpected argument {item!r}", "settings have the form key=value")
    return list(leftovers)


def _print_error(error: H2DError) -> None:
    for line in error.message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


# --- train, sample, evaluate, export ----------------------------------------------------------------------------------


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "train", _train, "train a stage: hand, outpaint, or a part of the tiny base model")
    parser.add_argument("experiment", help="name in configs/, or a YAML file")
    parser.add_argument(
        "--resume", default="never", metavar="auto|never|CKPT", help="what to continue from (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print settings, data and sizes, and train nothing")
    _takes_overrides(parser)


def _train(options: argparse.Namespace) -> None:
    from h2d.config import compose, to_yaml

    experiment, origins = compose(options.experiment, options.overrides)
    if options.dry_run:
        print(to_yaml(experiment, origins))
    from h2d.quiet import quiet_libraries

    quiet_libraries()
    if options.dry_run:
        from h2d.plan import describe

        print(describe(experiment, options.resume))
    else:
        from h2d.train import train

        train(experiment, options.resume)


def _add_sample(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "sample", _sample, "generate one image of a person in a given pose")
    parser.add_argument("--pipeline", type=Path, required=True, metavar="DIR", help="folder that `h2d export` wrote")
    parser.add_argument(
        "--pose",
        required=True,
        metavar="FILE",
        help="photograph, JSON of keypoints, or shards: FOLDER (its first test sample) or FOLDER::KEY",
    )
    parser.add_argument("--prompt", default=None, help="text; the sample's own caption when it has one")
    parser.add_argument("--blending", choices=("sequential", "naive", "bbox"), default="sequential")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50, help="denoising steps of each stage (%(default)s)")
    parser.add_argument("--guidance", type=float, default=7.5, help="classifier-free guidance (%(default)s)")
    parser.add_argument(
        "--start-radius",
        type=float,
        default=49.0,
        help="radius of the first, largest mask of sequential blending, in pixels at 512 (%(default)s)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="result.png, stages.png, sample.json")


def _sample(options: argparse.Namespace) -> None:
    from h2d.quiet import quiet_libraries
    from h2d.sample import SampleRequest, sample

    quiet_libraries()
    names = ("pipeline", "pose", "prompt", "blending", "seed", "steps", "guidance", "start_radius", "device", "out")
    print(sample(SampleRequest(**{name: getattr(options, name) for name in names})))


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "evaluate", _evaluate, "measure a pipeline on a split of the data")
    parser.add_argument("experiment", help="name in configs/, or a YAML file")
    parser.add_argument("--pipeline", type=Path, required=True, metavar="DIR", help="folder that `h2d export` wrote")
    _takes_overrides(parser)


def _evaluate(options: argparse.Namespace) -> None:
    from h2d.config import compose

    experiment = compose(options.experiment, options.overrides).experiment
    from h2d.evaluation import run_evaluation
    from h2d.quiet import quiet_libraries

    quiet_libraries()
    print(run_evaluation(experiment, options.pipeline))


def _add_export(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "export", _export, "join two checkpoints into a pipeline folder")
    parser.add_argument("--hand", type=Path, required=True, metavar="CKPT", help="checkpoint of stage I")
    parser.add_argument("--outpaint", type=Path, required=True, metavar="CKPT", help="checkpoint of stage II")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def _export(options: argparse.Namespace) -> None:
    from h2d.export import export
    from h2d.quiet import quiet_libraries

    quiet_libraries()
    print(export(options.hand, options.outpaint, options.out))


# --- config, data, doctor -----------------------------------------------------------------------------------------


def _add_config(commands: argparse._SubParsersAction) -> None:
    text = "look at experiments"
    verbs = commands.add_parser("config", help=text, description=text).add_subparsers(metavar="VERB", required=True)
    show = _command(verbs, "show", _config_show, "an experiment with every setting, and where each was set")
    show.add_argument("experiment")
    _takes_overrides(show)
    explain = _command(verbs, "explain", _config_explain, "every setting, its default and what it does")
    explain.add_argument("prefix", nargs="?", default="", help="start of the keys, `trainer` for example")
    _command(verbs, "list", _config_list, "experiments and presets")
    diff = _command(verbs, "diff", _config_diff, "settings that differ between two experiments")
    diff.add_argument("first")
    diff.add_argument("second")
    _takes_overrides(diff)


def _config_show(options: argparse.Namespace) -> None:
    from h2d.config import to_yaml
    from h2d.explain import for_display

    experiment, origins = for_display(options.experiment, options.overrides)
    print(to_yaml(experiment, origins), end="")


def _config_explain(options: argparse.Namespace) -> None:
    from h2d.explain import explain

    text = explain(options.prefix)
    if not text:
        raise ConfigError(f"no setting starts with {options.prefix!r}", "`h2d config explain` lists them all")
    print(text)


def _config_list(options: argparse.Namespace) -> None:
    from h2d.explain import listing

    print(listing())


def _config_diff(options: argparse.Namespace) -> None:
    from h2d.explain import diff, for_display

    print(diff(*(for_display(name, options.overrides) for name in (options.first, options.second))))


def _add_data(commands: argparse._SubParsersAction) -> None:
    text = "look at a folder of shards"
    verbs = commands.add_parser("data", help=text, description=text).add_subparsers(metavar="VERB", required=True)
    for name, run, what in (
        ("check", _data_check, "read every sample and compare it with the manifest"),
        ("stats", _data_stats, "count samples, hands and sizes"),
        ("preview", _data_preview, "draw samples with their labels"),
    ):
        parser = _command(verbs, name, run, what)
        parser.add_argument("shards", metavar="SHARDS", help="folder with a manifest.json, or data/{one,other}/shards")
        if name == "preview":
            parser.add_argument("--out", type=Path, default=Path("preview.png"), metavar="PNG")
            parser.add_argument("--count", type=int, default=16)

    latents = _command(verbs, "latents", _data_latents, "run the frozen VAE once over the examples of every epoch")
    latents.add_argument("experiment", help="name in configs/, or a YAML file; names the data and the base model")
    latents.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the latents")
    latents.add_argument("--variants", type=int, default=5, metavar="K", help="epochs to prepare (%(default)s)")
    latents.add_argument("--slice", default="0/1", metavar="K/N", help="share of the shards to do (%(default)s)")
    latents.add_argument("--device", default="auto", help="cpu, cuda or auto (%(default)s)")
    _takes_overrides(latents)


def _data_check(options: argparse.Namespace) -> None:
    from h2d.data.check import check
    from h2d.errors import DataError

    if problems := check(options.shards):
        raise DataError("\n".join(str(problem) for problem in problems))
    print(f"{options.shards}: no problems")


def _data_stats(options: argparse.Namespace) -> None:
    import json

    from h2d.data.stats import stats

    print(json.dumps(stats(options.shards), indent=2))


def _data_latents(options: argparse.Namespace) -> None:
    from h2d.config import compose

    experiment = compose(options.experiment, options.overrides).experiment
    from h2d.latent_cache import LatentsRequest, cache_latents
    from h2d.quiet import quiet_libraries

    quiet_libraries()
    print(cache_latents(LatentsRequest(experiment, options.out, options.variants, options.slice, options.device)))


def _data_preview(options: argparse.Namespace) -> None:
    from h2d.data.preview import preview

    if options.count < 1:
        raise ConfigError(f"--count has to be at least 1, not {options.count}")
    preview(options.shards, options.out, options.count)
    print(options.out)


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "doctor", _doctor, "list what this machine has and lacks, or download weights")
    what = "download the weights that are missing: those of a full experiment (about 23 GB), or the named ones"
    parser.add_argument("--fetch", nargs="*", metavar="NAME", help=what)


def _doctor(options: argparse.Namespace) -> None:
    if options.fetch is None:
        from h2d.doctor import report

        print(report())
    else:
        from h2d.downloads import fetch

        print(*fetch(options.fetch), sep="\n")

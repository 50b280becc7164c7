"""``python -m data_prep STAGE DATASET [key=value ...]``: raw pictures in, shards out."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from data_prep.keys import choose, describe, describe_own, parse
from data_prep.settings import Settings, existing_root
from data_prep.sources import NAMES
from h2d.errors import ConfigError, H2DError

STAGES = {
    "generate": "render synthetic people into root (synthetic only)",
    "index": "list the images and their splits",
    "keypoints": "find 133 keypoints with MediaPipe",
    "masks": "segment the hands",
    "captions": "describe each image",
    "filter": "keep what is good enough to train on",
    "pack": "write shards and their manifest.json",
    "all": "index to pack in a row; a finished stage is left alone",
}
EXAMPLES = """examples:
  python -m data_prep generate synthetic count=250 out=data/synthetic
  python -m data_prep all synthetic out=data/synthetic
  python -m data_prep all folder root=~/photos out=data/photos jobs=4
  python -m data_prep all hagrid root=~/hagrid out=data/hagrid preset=paper slice=3/16
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 the input is wrong, 130 interrupted."""
    args, leftovers = _parser().parse_known_args(arguments)
    try:
        _refuse(leftovers)
        choose("stage", args.stage, tuple(STAGES))
        choose("data set", args.dataset, NAMES)
        settings = parse(args.dataset, args.pairs)
        if not args.dry_run:
            _run(args.stage, args.dataset, settings, retry=args.retry_failed)
        return 0
    except H2DError as error:
        if args.debug:
            raise
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if args.debug:
            raise
        print(f"error: the package {error.name} is missing", file=sys.stderr)
        print("  hint: make setup, and then: . .venv/bin/activate", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        sys.stderr.close()
        return 1
    except Exception as error:
        if args.debug:
            raise
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  hint: this looks like a bug; --debug shows where", file=sys.stderr)
        return 1


def _refuse(leftovers: Sequence[str]) -> None:
    """What argparse cannot place, such as ``--jobs 2`` for ``jobs=2``, is a mistake."""
    for word in leftovers:
        name = word.lstrip("-").partition("=")[0]
        raise ConfigError(f"unknown option {word}", f"did you mean {name}=VALUE? settings take no dashes")


def _run(stage: str, dataset: str, settings: Settings, *, retry: bool) -> None:
    if stage == "generate":
        _generate(dataset, settings)
        return
    existing_root(settings, dataset)
    from data_prep.run import run_stages

    run_stages(stage, dataset, settings, retry=retry)


def _generate(dataset: str, settings: Settings) -> None:
    if dataset != "synthetic" or settings.root is None:
        raise ConfigError(f"{dataset} brings its own images", "generate is for synthetic; use: all " + dataset)
    from data_prep.synthetic import generate

    generate(settings.root, settings.count, settings.seed, settings.size, settings.workers)


def _parser() -> argparse.ArgumentParser:
    stages = "\n".join(f"  {name:12s}{text}" for name, text in STAGES.items())
    keys = f"keys:\n{describe()}\n\n{describe_own(NAMES)}"
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description="Prepare pictures for training, in stages that can be stopped at any time and go on.",
        epilog=f"stages:\n{stages}\n\ndata sets: {', '.join(NAMES)}\n\n{keys}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage", metavar="STAGE")
    parser.add_argument("dataset", metavar="DATASET")
    parser.add_argument("pairs", metavar="key=value", nargs="*")
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="try images again that could not be judged: unreadable files, processes that died",
    )
    parser.add_argument("--dry-run", action="store_true", help="look at the words only, and do nothing")
    parser.add_argument("--debug", action="store_true", help="show a traceback")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's request to end is a Ctrl-C
    sys.exit(main())

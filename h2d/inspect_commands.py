"""Commands that look at settings, data and this machine: ``h2d config``, ``h2d data`` and ``h2d doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path

from h2d.arguments import command, takes_overrides
from h2d.errors import CheckpointError, ConfigError


def add_config(commands: argparse._SubParsersAction) -> None:
    """``h2d config show | check | explain | list | diff``."""
    text = "look at experiments"
    verbs = commands.add_parser("config", help=text, description=text).add_subparsers(metavar="VERB", required=True)
    show = command(verbs, "show", _config_show, "an experiment with every setting, and where each was set")
    show.add_argument("experiment")
    takes_overrides(show)
    check = command(
        verbs, "check", _config_check, "would a job start? looks at settings and paths, prints the run's folder"
    )
    check.add_argument("experiment")
    check.add_argument("--pipeline", type=Path, metavar="DIR", help="of an evaluation")
    check.add_argument("--later", action="store_true", help="data, checkpoints and pipeline are made by jobs before")
    takes_overrides(check)
    explain = command(verbs, "explain", _config_explain, "every setting, its default and what it does")
    explain.add_argument("prefix", nargs="?", default="", help="start of the keys, `trainer` for example")
    command(verbs, "list", _config_list, "experiments and presets")
    diff = command(verbs, "diff", _config_diff, "settings that differ between two experiments")
    diff.add_argument("first")
    diff.add_argument("second")
    takes_overrides(diff)


def _config_show(options: argparse.Namespace) -> None:
    from h2d.config import to_yaml
    from h2d.explain import for_display

    experiment, origins = for_display(options.experiment, options.overrides)
    print(to_yaml(experiment, origins), end="")


def _config_check(options: argparse.Namespace) -> None:
    from h2d.config import compose
    from h2d.data.shards import read_manifests
    from h2d.runs import check_partner, run_folder

    experiment = compose(options.experiment, options.overrides).experiment
    if not options.later:
        read_manifests(experiment.data.shards)
        check_partner(experiment)
        if options.pipeline is not None and not (options.pipeline / "model_index.json").is_file():
            raise CheckpointError(f"{options.pipeline} is no pipeline folder", "`h2d export` makes one")
    print(run_folder(experiment).absolute())


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


def add_data(commands: argparse._SubParsersAction) -> None:
    """``h2d data check | stats | preview | latents``."""
    text = "look at a folder of shards"
    verbs = commands.add_parser("data", help=text, description=text).add_subparsers(metavar="VERB", required=True)
    for name, run, what in (
        ("check", _data_check, "read every sample and compare it with the manifest"),
        ("stats", _data_stats, "count samples, hands and sizes"),
        ("preview", _data_preview, "draw samples with their labels"),
    ):
        parser = command(verbs, name, run, what)
        parser.add_argument("shards", metavar="SHARDS", help="folder with a manifest.json, or data/{one,other}/shards")
        if name == "preview":
            parser.add_argument("--out", type=Path, default=Path("preview.png"), metavar="PNG")
            parser.add_argument("--count", type=int, default=16)

    latents = command(verbs, "latents", _data_latents, "run the frozen VAE once over the examples of every epoch")
    latents.add_argument("experiment", help="name in configs/, or a YAML file; names the data and the base model")
    latents.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the latents")
    latents.add_argument("--variants", type=int, default=5, metavar="K", help="epochs to prepare (%(default)s)")
    latents.add_argument("--slice", default="0/1", metavar="K/N", help="share of the shards to do (%(default)s)")
    latents.add_argument("--device", default="auto", help="cpu, cuda or auto (%(default)s)")
    takes_overrides(latents)


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


def add_doctor(commands: argparse._SubParsersAction) -> None:
    """``h2d doctor``."""
    parser = command(commands, "doctor", _doctor, "list what this machine has and lacks, or download weights")
    what = "download the weights that are missing: those of a full experiment (about 23 GB), or the named ones"
    parser.add_argument("--fetch", nargs="*", metavar="NAME", help=what)


def _doctor(options: argparse.Namespace) -> None:
    if options.fetch is None:
        from h2d.doctor import report

        print(report())
    else:
        from h2d.downloads import fetch

        print(*fetch(options.fetch), sep="\n")

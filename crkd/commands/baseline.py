"""``crkd baseline``: the baselines for a discovery."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from crkd.commands.discover.path_of_flags import check_parent, refuse_with_features
from crkd.commands.discover.stage1 import stage1_run
from crkd.commands.flags import add_config_flags, add_run_flags, check_resume, config_of
from crkd.commands.output import check_out, print_protocols, run_name
from crkd.config.schema import Config
from crkd.core.errors import InputError, listed

DESCRIPTION = """\
Run a baseline and evaluate it under every protocol.

  kmeans       k-means on the stage-1 features of the unlabeled images. A
               prediction is the nearest center among the clusters and the
               feature means of the known classes. In the mixed setting
               (--mixed, or data.labeled_fraction below 1) there are as many
               clusters as known and novel classes.
  semi-kmeans  k-means on the stage-1 features of all images. Labeled images
               stay in the cluster of their class.
  uno          UNO v2: over-clustering heads, no distillation terms. Without
               model.overclustering, the published factor of the split, else 3
  swapped      UNO without over-clustering: discovery without distillation terms
  simgcd       SimGCD: one classifier of known and novel classes, trained by
               self-distillation from the network of stage 1
  supervised   upper bound: supervised training on all classes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    choices = ("kmeans", "semi-kmeans", "uno", "swapped", "simgcd", "supervised")
    parser.add_argument("name", choices=choices, metavar="BASELINE", help="see above")
    add_config_flags(parser)
    add_run_flags(parser)
    parser.add_argument(
        "--features",
        nargs=2,
        metavar="FILE",
        help="feature vectors instead of images, KNOWN and NOVEL; for kmeans, semi-kmeans, simgcd",
    )
    parser.add_argument("--from", dest="parent", metavar="RUN", help="stage-1 run")
    parser.add_argument(
        "--pretrain", action="store_true", help="run stage 1 first if there is no stage-1 run"
    )


def run(given: argparse.Namespace) -> int:
    """Run one baseline; return the exit code."""
    if given.features is not None:
        return _run_on_vectors(given)
    _check_parent(given)
    config = config_of(given)
    check_resume(given)
    from crkd.runs.search import free_folder
    from crkd.stages.baselines.kmeans import METHODS, kmeans_on_features
    from crkd.stages.baselines.supervised import supervised_upper_bound
    from crkd.stages.discover.run import discover
    from crkd.training.interruption import Interrupted

    out = Path(given.out) if given.out else free_folder(run_name(config, given.name))
    check_out(out, resume=given.resume)
    # Where stage 1 was interrupted, there is no run to continue yet.
    resume = given.resume and (out / "run.json").is_file()
    try:
        if given.name == "supervised":
            finished = supervised_upper_bound(config, out, resume=resume, download=given.download)
        elif given.name in METHODS:
            stage1 = stage1_run(config, given, out)
            finished = kmeans_on_features(
                config, out, stage1, method=given.name, resume=resume, download=given.download
            )
        else:
            config = _as_baseline(config, given.name)
            stage1 = stage1_run(config, given, out)
            finished = discover(config, out, stage1, resume=resume, download=given.download)
    except Interrupted as stop:
        print(f"crkd baseline: {stop}", file=sys.stderr)
        return 130
    print_protocols(finished)
    return 0


def _check_parent(given: argparse.Namespace) -> None:
    """Refuse flags of a stage 1 that the baseline would not start from.

    Raises:
        InputError: the baseline has no stage 1, or both of its flags are given.
    """
    if given.name != "supervised":
        check_parent(given)
        return
    for flag, value in (("--from", given.parent), ("--pretrain", given.pretrain)):
        if value:
            raise InputError(
                f"{flag} gives a stage-1 run to start from, and the baseline supervised trains "
                "from scratch; leave it out"
            )


def _run_on_vectors(given: argparse.Namespace) -> int:
    from crkd.commands.discover.vectors import vector_run_folder
    from crkd.runs.folder import check_free
    from crkd.stages.baselines.vectors import SETTINGS, baseline_on_vectors

    if given.name not in SETTINGS:
        raise InputError(
            f"the baseline {given.name} trains a network, and --features gives vectors; choose "
            f"one of: {listed(SETTINGS)}"
        )
    refuse_with_features(given, ("pretrain", "parent", "resume"))
    more = {"dataset": "features", "data": {"features": given.features}}
    config = config_of(given, more=more)
    out = vector_run_folder(given, config.seed, given.name)
    check_free(out, resumable=False)
    print_protocols(baseline_on_vectors(config, out, given.name))
    return 0


def _as_baseline(config: Config, name: str) -> Config:
    """Return the configuration of a baseline that trains a discovery."""
    from crkd.stages.baselines.uno import uno_v2, uno_without_overclustering

    if name == "uno":
        return uno_v2(config)
    config = uno_without_overclustering(config)
    if name == "simgcd":
        share = config.discover.labeled_share
        discover = dataclasses.replace(
            config.discover,
            method="simgcd",
            num_small=0,
            # As in the release, which draws labeled and unlabeled images equally often.
            labeled_share=0.5 if share is None else share,
        )
        config = dataclasses.replace(config, discover=discover)
    return config

"""``crkd discover``: stage 2, discovery of the novel classes."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from crkd.commands.flags import Parser, add_config_flags, add_run_flags, config_of
from crkd.commands.output import RUNS, print_protocols, run_name
from crkd.config.schema import Config
from crkd.core.errors import InputError

DESCRIPTION = """\
Stage 2: find the novel classes among unlabeled images.

Starts from the finished stage-1 run of the same data set and split; --from names another one,
--pretrain makes one first if there is none. With --from RUN --novel DIR a finished run of any kind
is extended by the classes of new images; the old images are not needed (--known adds them).
--decisions FILE of a review is applied to RUN first.

  crkd discover --dataset cifar100 --pretrain
  crkd discover --known products/ --novel new-photos/ --num-novel 12 --pretrain
  crkd discover --from runs/mine --novel this-week/ --num-novel 4
  crkd discover --features known.parquet novel.parquet --num-novel 12
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run stage 2; return the exit code."""
    parser = Parser(prog="crkd discover", description=DESCRIPTION)
    add_config_flags(parser)
    add_run_flags(parser)
    parser.add_argument("--from", dest="parent", metavar="RUN", help="the run to start from")
    parser.add_argument(
        "--decisions", metavar="FILE", help="of a review of the run in --from: apply them first"
    )
    parser.add_argument(
        "--pretrain", action="store_true", help="run stage 1 first if no run of it is found"
    )
    parser.add_argument(
        "--features",
        nargs=2,
        metavar=("KNOWN", "NOVEL"),
        help="files of precomputed features in the place of images; stage 1 is part of the run",
    )
    given = parser.parse_args(arguments)
    if given.features is not None:
        take_features(given)
    if given.decisions is not None:
        take_decisions(given)
        if given.novel is None:
            return 0
    config = config_of(given, base=_step_config(given))
    if given.resume and given.out is None:
        raise InputError("--resume needs --out RUN, the run to go on with")
    if config.dataset == "folder" and config.data.novel is None:
        raise InputError("--novel is not given; name the folder of unlabeled images")

    from crkd.runs.search import free_folder
    from crkd.stages.arrays.run import discover_features
    from crkd.stages.discover.run import discover
    from crkd.training.interruption import Interrupted

    try:
        out = Path(given.out) if given.out else free_folder(run_name(config, "discover"))
        resume = given.resume and (out / "run.json").is_file()
        if config.dataset == "features":
            run = discover_features(config, out, resume=resume)
        else:
            flags = list(sys.argv[1:] if arguments is None else arguments)
            parent = stage1_run(config, given, flags, out)
            run = discover(config, out, parent, resume=resume, download=given.download)
    except Interrupted as stop:
        print(f"crkd discover: {stop}", file=sys.stderr)
        return 130
    print_protocols(run)
    return 0


def _step_config(given: argparse.Namespace) -> Config | None:
    """Return what to start from where new images extend a run; else None.

    ``--from RUN --novel DIR`` alone says that: the run knows its classes and its settings.
    """
    named = (given.config, given.dataset, given.split)
    if given.parent is None or given.novel is None or any(value is not None for value in named):
        return None
    from crkd.runs.folder import RunFolder
    from crkd.stages.incremental import extension

    run = RunFolder.open(given.parent)
    if given.known is not None and run.read_info().num_novel == 0:
        # Stage 1 with its images at hand: the usual discovery, with the usual settings.
        return None
    return extension(run)


def take_decisions(given: argparse.Namespace) -> None:
    """Put the run that ``--decisions`` makes of the one in ``--from`` in its place.

    Raises:
        InputError: there is no ``--from``, or run and file do not fit.
    """
    if given.parent is None:
        raise InputError("--decisions is given without --from; name the run that was reviewed")

    from crkd.core.device import pick_device
    from crkd.review.reviewed_run import named_run

    device = pick_device(given.device or "auto")
    given.parent = named_run(given.parent, Path(given.decisions), device=device)
    print(f"reviewed: {given.parent}", file=sys.stderr)


def take_features(given: argparse.Namespace) -> None:
    """Turn ``--features`` into settings.

    Raises:
        InputError: a flag that is about images, or about another run, was given beside it.
    """
    beside = {
        "--dataset": given.dataset,
        "--known": given.known,
        "--novel": given.novel,
        "--from": given.parent,
        "--pretrain": given.pretrain,
    }
    for flag, value in beside.items():
        if value:
            raise InputError(
                f"{flag} does not go with --features, which names all data and makes its own "
                "stage 1; leave one of them out"
            )
    given.dataset = "features"
    given.settings.append(f"data.features={json.dumps(given.features)}")


def stage1_run(config: Config, given: argparse.Namespace, arguments: list[str], out: Path) -> Path:
    """Return the stage-1 run to start from, made here if ``--pretrain`` asks for it.

    Args:
        config: the configuration of the run.
        given: the command's parsed flags.
        arguments: the same unparsed.
        out: folder of the run that will start from it.

    Raises:
        InputError: there is none; the message gives the exact command that makes one.
    """
    if given.parent is not None:
        return Path(given.parent)

    from crkd.runs.search import find_stage1, free_folder
    from crkd.stages.load_images import split_entry, split_of
    from crkd.stages.pretrain.run import pretrain
    from crkd.training.interruption import Interrupted

    known = split_entry(split_of(config))["known"]
    place = out.parent
    found = find_stage1([place, RUNS], dataset=config.dataset, known=known, seed=config.seed)
    unfinished = place / f"pretrain-seed{config.seed}"
    # Runs of several seeds are compared by their spread, so each gets a stage 1 of its own.
    other_seed = found is not None and found[1].seed != config.seed
    if found is not None and not (given.pretrain and other_seed):
        print(f"stage 1: {found[0]}", file=sys.stderr)
        return found[0]
    if given.pretrain:
        resume = given.resume and (unfinished / "run.json").is_file()
        folder = unfinished if resume else free_folder(unfinished)
        try:
            return pretrain(config, folder, resume=resume, download=given.download).path
        except Interrupted as stop:
            raise stop.within("stage 1", out) from None
    command = ["python", "tools/pretrain.py", *without_own_flags(arguments)]
    raise InputError(
        f"no finished stage-1 run of {config.dataset} with this split lies in {place} or {RUNS}; "
        f"make one with '{shlex.join(command)}', or add --pretrain"
    )


def without_own_flags(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that stage 1 understands too, without ``--out`` and its kin.

    >>> without_own_flags(["--dataset", "digits", "--out", "x", "--pretrain"])
    ['--dataset', 'digits']
    """
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name = argument.split("=", 1)[0]
        if skip:
            skip = False
        elif name in ("--out", "--from"):
            skip = "=" not in argument
        elif name not in ("--pretrain", "--resume"):
            kept.append(argument)
    return kept

"""``crkd distill``: training of a small student network from a finished run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from crkd.commands.flags import (
    add_data_root_flag,
    add_device_flag,
    add_run_flags,
    add_set_flag,
    check_resume,
    check_run,
)
from crkd.commands.output import check_out, print_protocols, run_name
from crkd.config.check import build, plain
from crkd.config.load import merge, parse_setting
from crkd.config.schema import Config
from crkd.core.errors import InputError

DESCRIPTION = """\
Train a small network (student) to match the outputs of a run (teacher).

The teacher is any finished run with a network: of pretrain, discover, baseline
or distill. Its configuration sets the data set and the split. From a discovery,
the student learns the known classes and the novel classes of the selected head.
It uses no hidden labels. --method uses the published weights of its terms;
--set distill.method=[...] sets terms with other weights.

The teacher may be a discovery on own images without --train-backbone. The
student learns from these images. The outputs of the teacher are computed once
from the stored vectors.

  crkd distill --teacher runs/mine --student resnet8x4 --method simkd
  crkd distill --teacher runs/mine --method tolerant --generations 3
  crkd distill --teacher runs/new-photos/discover-seed0 --image-size 64
  crkd distill --list
"""
STAGES = ("pretrain", "discover", "distill")
OWN_BLOCKS = ("distill", "loop", "evaluation")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("--teacher", metavar="RUN", help="run to compress")
    parser.add_argument(
        "--student",
        metavar="NAME",
        help="backbone (default: the teacher's, or resnet20 for a teacher on vectors)",
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        action="append",
        help="distillation method, see --list; may be repeated",
    )
    parser.add_argument(
        "--generations",
        metavar="N",
        type=int,
        help="number of students, each the teacher of the next one",
    )
    parser.add_argument(
        "--image-size",
        metavar="PX",
        type=int,
        help="image height and width, for a teacher on vectors (default: up to 64)",
    )
    parser.add_argument(
        "--list", action="store_true", help="print all methods and their requirements"
    )
    add_run_flags(parser)
    add_set_flag(parser, "change a configuration key of the block distill, loop or evaluation")
    add_data_root_flag(parser)
    add_device_flag(parser, default=None)
    parser.add_argument("--seed", type=int, metavar="N", help="seed of weights, batches and views")


def run(given: argparse.Namespace) -> int:
    """Train a student, or list the methods; return the exit code."""
    if given.list:
        _list()
        return 0
    if given.teacher is None:
        raise InputError("--teacher is not given; name the run to compress, or use --list")
    check_resume(given)
    check_run(given.teacher)

    from crkd.runs.search import free_folder
    from crkd.stages.distill.run import distill
    from crkd.training.interruption import Interrupted

    config = student_config(given)
    name = "-".join(["distill", *(term.name for term in config.distill.method)])
    place = run_name(config, name)
    if config.dataset == "features":
        place = Path(given.teacher).parent / place.name
    out = Path(given.out) if given.out else free_folder(place)
    check_out(out, resume=given.resume)
    try:
        trained = distill(config, out, given.teacher, resume=given.resume)
    except Interrupted as stop:
        print(f"crkd distill: {stop}", file=sys.stderr)
        return 130
    print_protocols(trained)
    return 0


def student_config(given: argparse.Namespace) -> Config:
    """Return the teacher's configuration with the student's flags applied.

    Raises:
        InputError: the teacher has none, a setting is unknown or belongs to the teacher, or a
            method is of a plug-in that is missing.
    """
    from crkd.losses.term import TERMS
    from crkd.runs.folder import RunFolder
    from crkd.runs.plugins import check_installed

    run = RunFolder.open(given.teacher)
    info = run.read_info()
    check_installed(run.path, info, [(TERMS, name) for name in given.method or ()])
    if given.image_size is not None and not info.on_vectors:
        raise InputError(
            f"--image-size {given.image_size} is for a teacher on feature vectors; leave it out, "
            f"because the student takes images of the size of {run.path}"
        )
    values: dict[str, Any] = plain(run.read_config())
    for setting in given.settings:
        changed = parse_setting(setting)
        block = next(iter(changed))
        if block not in OWN_BLOCKS:
            raise InputError(
                f"--set {setting} belongs to the teacher, which sets the data of the student; "
                f"change keys of the blocks {', '.join(OWN_BLOCKS)}"
            )
        values = merge(values, changed)
    return build(Config, merge(values, _flags(given)))


def _flags(given: argparse.Namespace) -> dict[str, Any]:
    from crkd.training.loss_terms import published

    distill: dict[str, Any] = {}
    if given.student is not None:
        distill["student"] = given.student
    if given.method is not None:
        distill["method"] = [plain(term) for name in given.method for term in published(name)]
    if given.generations is not None:
        distill["generations"] = given.generations
    flags: dict[str, Any] = {"distill": distill}
    data = {"root": given.data_root, "image_size": given.image_size}
    flags["data"] = {name: value for name, value in data.items() if value is not None}
    for name in ("device", "seed"):
        if getattr(given, name) is not None:
            flags[name] = getattr(given, name)
    return flags


def _list() -> None:
    from crkd.losses.term import TERMS

    names = TERMS.names()
    width = max(map(len, names))
    terms = TERMS.loaded()
    for name in names:
        plugin = TERMS.plugin(name)
        if plugin is not None:
            # The list imports no plug-in.
            print(f"{name:<{width}}  of the plug-in {plugin.distribution} {plugin.version}")
            continue
        term = terms[name]
        stages = ", ".join(stage for stage in STAGES if stage in term.stages)
        needs = ", ".join(sorted(term.needs)) or "nothing"
        print(f"{name:<{width}}  needs {needs}; applies to {stages}")

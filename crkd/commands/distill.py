"""``crkd distill``: compress a trained run into a small network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crkd.commands.flags import Parser, add_run_flags
from crkd.commands.output import print_protocols, run_name
from crkd.config.check import build, plain
from crkd.config.load import merge, parse_setting
from crkd.config.schema import Config
from crkd.core.errors import InputError

DESCRIPTION = """\
Train a small network, the student, to answer like a trained run, the teacher.

The teacher may be any finished run with a network: supervised, discovered or itself distilled. Its
own configuration says which data set and split it is about; of a discovered run the student learns
known and novel classes from the chosen head, and no hidden label. A method is taken with its
published weights; --set distill.method=[...] states a list of terms with others.

  crkd distill --teacher runs/mine --student resnet8x4 --method simkd
  crkd distill --teacher runs/mine --method tolerant --generations 3
  crkd distill --list
"""
STAGES = ("pretrain", "discover", "distill")
OWN_BLOCKS = ("distill", "loop", "evaluation")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a student, or list the methods; return the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list:
        _list()
        return 0
    if given.teacher is None:
        raise InputError("--teacher is not given; name the run to compress, or use --list")
    if given.resume and given.out is None:
        raise InputError("--resume needs --out RUN, the run to go on with")

    from crkd.runs.search import free_folder
    from crkd.stages.distill.run import distill
    from crkd.training.loop import Interrupted

    config = student_config(given)
    name = "-".join(["distill", *(term.name for term in config.distill.method)])
    out = Path(given.out) if given.out else free_folder(run_name(config, name))
    try:
        run = distill(config, out, given.teacher, resume=given.resume)
    except Interrupted as stop:
        print(f"crkd distill: {stop}", file=sys.stderr)
        return 130
    print_protocols(run)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="crkd distill", description=DESCRIPTION)
    parser.add_argument("--teacher", metavar="RUN", help="the run to compress")
    parser.add_argument("--student", metavar="NAME", help="a backbone (default: the teacher's)")
    parser.add_argument(
        "--method", metavar="NAME", action="append", help="see --list; may be repeated"
    )
    parser.add_argument("--generations", metavar="N", type=int, help="students in a row")
    parser.add_argument("--list", action="store_true", help="print every method and what it needs")
    add_run_flags(parser)
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a key of the blocks distill, loop or evaluation; may be repeated",
    )
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data sets")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, metavar="N", help="of weights, batches and views")
    return parser


def student_config(given: argparse.Namespace) -> Config:
    """Return the teacher's configuration with what the flags say of the student.

    Raises:
        InputError: the teacher has none, a setting is unknown or belongs to the teacher, or a
            method is of a plug-in that is missing.
    """
    from crkd.losses.term import TERMS
    from crkd.runs.folder import RunFolder
    from crkd.runs.plugins import check_installed

    run = RunFolder.open(given.teacher)
    check_installed(run.path, run.read_info(), [(TERMS, name) for name in given.method or ()])
    values: dict[str, Any] = plain(run.read_config())
    for setting in given.settings:
        changed = parse_setting(setting)
        block = next(iter(changed))
        if block not in OWN_BLOCKS:
            raise InputError(
                f"--set {setting} belongs to the teacher, whose data the student learns from; "
                f"set keys of {', '.join(OWN_BLOCKS)}"
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
    if given.data_root is not None:
        flags["data"] = {"root": given.data_root}
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
            # A list asks for no plug-in, so none is imported to say more of itself.
            print(f"{name:<{width}}  of the plug-in {plugin.distribution} {plugin.version}")
            continue
        term = terms[name]
        stages = ", ".join(stage for stage in STAGES if stage in term.stages)
        needs = ", ".join(sorted(term.needs)) or "nothing"
        print(f"{name:<{width}}  needs {needs}; applies to {stages}")

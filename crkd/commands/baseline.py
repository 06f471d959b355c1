"""``crkd baseline``: the easy methods that a result has to beat."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from crkd.commands.discover import stage1_run
from crkd.commands.flags import Parser, add_config_flags, add_run_flags, config_of
from crkd.commands.output import print_protocols, run_name
from crkd.core.errors import InputError

DESCRIPTION = """\
Run a baseline and score it under every protocol.

  kmeans      k-means on stage-1 features; known classes by their feature means
  semi-kmeans the same on all images, labeled ones tied to the cluster of their class
  uno         discovery without any distillation term
  supervised  upper bound, trained with the labels of all classes
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one baseline; return the exit code."""
    parser = Parser(prog="crkd baseline", description=DESCRIPTION)
    parser.add_argument("name", choices=("kmeans", "semi-kmeans", "uno", "supervised"))
    add_config_flags(parser)
    add_run_flags(parser)
    parser.add_argument("--from", dest="parent", metavar="RUN", help="the stage-1 run")
    parser.add_argument("--pretrain", action="store_true", help="run stage 1 first if needed")
    given = parser.parse_args(arguments)
    config = config_of(given)
    if given.resume and given.out is None:
        raise InputError("--resume needs --out RUN, the run to go on with")
    if given.resume and given.name in ("kmeans", "semi-kmeans"):
        raise InputError(
            f"--resume does not apply to {given.name}, which trains nothing; start it again"
        )

    from crkd.runs.search import free_folder
    from crkd.stages.baselines.kmeans import METHODS, kmeans_on_features
    from crkd.stages.baselines.supervised import supervised_upper_bound
    from crkd.stages.discover.run import discover
    from crkd.training.interruption import Interrupted

    out = Path(given.out) if given.out else free_folder(run_name(config, given.name))
    flags = list(sys.argv[1:] if arguments is None else arguments)
    flags.remove(given.name)
    try:
        if given.name == "supervised":
            run = supervised_upper_bound(config, out, resume=given.resume)
        elif given.name in METHODS:
            stage1 = stage1_run(config, given, flags, out)
            run = kmeans_on_features(config, out, stage1, method=given.name)
        else:
            plain = dataclasses.replace(config.discover, distillation=())
            config = dataclasses.replace(config, discover=plain)
            run = discover(config, out, stage1_run(config, given, flags, out), resume=given.resume)
    except Interrupted as stop:
        print(f"crkd baseline: {stop}", file=sys.stderr)
        return 130
    print_protocols(run)
    return 0

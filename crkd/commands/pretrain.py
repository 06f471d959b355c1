"""``crkd pretrain``: stage 1, supervised training on the known classes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from crkd.commands.flags import Parser, add_config_flags, add_run_flags, config_of
from crkd.commands.output import print_protocols, run_name
from crkd.core.errors import InputError

DESCRIPTION = "Stage 1: train a network on the known, labeled classes."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run stage 1; return the exit code."""
    parser = Parser(prog="crkd pretrain", description=DESCRIPTION)
    add_config_flags(parser)
    add_run_flags(parser)
    given = parser.parse_args(arguments)
    config = config_of(given)
    if given.resume and given.out is None:
        raise InputError("--resume needs --out RUN, the run to go on with")

    from crkd.runs.search import free_folder
    from crkd.stages.pretrain.run import pretrain
    from crkd.training.interruption import Interrupted

    out = Path(given.out) if given.out else free_folder(run_name(config, "pretrain"))
    try:
        run = pretrain(config, out, resume=given.resume, download=given.download)
    except Interrupted as stop:
        print(f"crkd pretrain: {stop}", file=sys.stderr)
        return 130
    print_protocols(run)
    return 0

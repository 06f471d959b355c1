"""``crkd pretrain``: stage 1, supervised training on the known classes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from crkd.commands.flags import add_config_flags, add_run_flags, check_resume, config_of
from crkd.commands.output import check_out, print_protocols, run_name, suggest_cpu_recipe

DESCRIPTION = """\
Stage 1: train a network on the labeled images of the known classes.

  crkd pretrain --dataset cifar100
  crkd pretrain --known products/ --out runs/products
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_config_flags(parser)
    add_run_flags(parser)


def run(given: argparse.Namespace) -> int:
    """Run stage 1; return the exit code."""
    config = config_of(given)
    check_resume(given)

    from crkd.runs.search import free_folder
    from crkd.stages.pretrain.run import pretrain
    from crkd.training.interruption import Interrupted

    out = Path(given.out) if given.out else free_folder(run_name(config, "pretrain"))
    check_out(out, resume=given.resume)
    suggest_cpu_recipe(config, given)
    try:
        trained = pretrain(config, out, resume=given.resume, download=given.download)
    except Interrupted as stop:
        print(f"crkd pretrain: {stop}", file=sys.stderr)
        return 130
    print_protocols(trained)
    return 0

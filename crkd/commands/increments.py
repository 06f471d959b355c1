"""``crkd increments``: several discoveries, one after another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from crkd.commands.flags import add_config_flags, add_run_flags, check_resume, config_of
from crkd.commands.output import RUNS

DESCRIPTION = """\
Train on the first group of classes, then discover the other groups one after
another. Each step uses no images of earlier classes.

  crkd increments --dataset digits --plan 4-3-3
  crkd increments --dataset cifar100 --plan 80-10-10
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_config_flags(parser)
    add_run_flags(parser)
    parser.add_argument(
        "--plan",
        required=True,
        metavar="N-N-...",
        help="number of classes in each group; the first group is the known classes",
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        default="remember",
        help="remember, or a baseline: finetune or frost (default: remember)",
    )


def run(given: argparse.Namespace) -> int:
    """Run a plan; return the exit code."""
    from crkd.evaluation.steps import parse_plan

    config = config_of(given)
    sizes = parse_plan(given.plan)
    check_resume(given)

    from crkd.runs.search import free_folder
    from crkd.stages.incremental import run_plan
    from crkd.training.interruption import Interrupted

    default = RUNS / f"{config.dataset}-{given.plan}" / f"{given.method}-seed{config.seed}"
    out = Path(given.out) if given.out else free_folder(default)
    try:
        metrics = run_plan(
            config, sizes, out, method=given.method, resume=given.resume, download=given.download
        )
    except Interrupted as stop:
        print(f"crkd increments: {Interrupted(stop.progress, out)}", file=sys.stderr)
        return 130
    show(metrics)
    print(f"plan: {out}")
    return 0


def show(metrics: dict[str, Any]) -> None:
    """Print the accuracy on every class group after each step."""
    from rich.console import Console
    from rich.table import Table

    sizes, steps = metrics["plan"], metrics["steps"]
    table = Table(title="accuracy on test images (%), task-agnostic")
    table.add_column("after")
    for name in ("all", "old", "new"):
        table.add_column(name, justify="right", style="bold" if name == "all" else None)
    for number, size in enumerate(sizes):
        origin = "labeled" if number == 0 else f"step {number}"
        table.add_column(f"{size} {origin}", justify="right")
    for number, step in enumerate(steps):
        groups = [*step["groups"], *[None] * (len(sizes) - len(step["groups"]))]
        cells = [_percent(value) for value in (*step["acc"].values(), *groups)]
        table.add_row("stage 1" if number == 0 else f"step {number}", *cells)
    table.add_section()
    lost = [*metrics["forgetting"], None]
    table.add_row("forgetting", "", "", "", *(_percent(value) for value in lost))
    Console().print(table)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"

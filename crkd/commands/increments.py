"""``crkd increments``: a whole plan of discoveries, step by step."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crkd.commands.flags import Parser, add_config_flags, add_run_flags, config_of
from crkd.commands.output import RUNS
from crkd.core.errors import InputError
from crkd.evaluation.steps import parse_plan

DESCRIPTION = """\
Run a plan: train on the first classes, then discover group after group, with the images of all
earlier classes gone.

  crkd increments --dataset digits --plan 4-3-3
  crkd increments --dataset cifar100 --plan 80-10-10
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a plan; return the exit code."""
    parser = Parser(prog="crkd increments", description=DESCRIPTION)
    add_config_flags(parser)
    add_run_flags(parser)
    parser.add_argument(
        "--plan", required=True, metavar="N-N-...", help="class counts, the known ones first"
    )
    parser.add_argument(
        "--method",
        default="remember",
        help="remember (default), or the baselines finetune and frost",
    )
    given = parser.parse_args(arguments)
    config = config_of(given)
    sizes = parse_plan(given.plan)
    if given.resume and given.out is None:
        raise InputError("--resume needs --out RUN, the plan to go on with")

    from crkd.runs.search import free_folder
    from crkd.stages.incremental import run_plan
    from crkd.training.interruption import Interrupted

    default = RUNS / f"{config.dataset}-{given.plan}" / f"{given.method}-seed{config.seed}"
    out = Path(given.out) if given.out else free_folder(default)
    try:
        figures = run_plan(
            config, sizes, out, method=given.method, resume=given.resume, download=given.download
        )
    except Interrupted as stop:
        print(f"crkd increments: {Interrupted(stop.progress, out)}", file=sys.stderr)
        return 130
    show(figures)
    print(f"plan: {out}")
    return 0


def show(figures: dict[str, Any]) -> None:
    """Print what each step knows of every class group."""
    from rich.console import Console
    from rich.table import Table

    sizes, steps = figures["plan"], figures["steps"]
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
    lost = [*figures["forgetting"], None]
    table.add_row("forgotten", "", "", "", *(_percent(value) for value in lost))
    Console().print(table)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"

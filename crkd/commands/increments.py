"""``crkd increments``: several discoveries, one after another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd.commands.discover.path_of_flags import refuse_with_features
from crkd.commands.flags import add_config_flags, add_run_flags, check_resume, config_of
from crkd.commands.output import RUNS

if TYPE_CHECKING:
    from rich.table import Table

DESCRIPTION = """\
Train on the first group of classes, then discover the other groups one after
another. Each step uses no labeled images of earlier classes.

  crkd increments --dataset digits --plan 4-3-3
  crkd increments --dataset cifar100 --plan 80-10-10

A session can mix new classes with a few samples of each class before, which is
continual generalized category discovery, on images and on feature vectors:

  crkd increments --dataset cifar100 --plan 50-10-10-10-10-10 \\
    --session 400-25 --set data.labeled_fraction=0.8
  crkd increments --features TRAIN TEST --plan 50-10-10-10-10-10 \\
    --session 400-25 --set data.labeled_fraction=0.8
"""


MOST_GROUPS = 5
"""Groups of classes that have a column; more do not fit a terminal."""


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
        help="remember, or a baseline: finetune or frost; kmeans on vectors (default: remember)",
    )
    parser.add_argument(
        "--features",
        nargs="+",
        metavar="FILE",
        help="feature vectors instead of images: TRAIN TEST, with the labels of all classes",
    )
    parser.add_argument(
        "--session",
        metavar="NEW-OLD",
        help="samples of each new and of each old class in a session (default: all samples of the "
        "new classes)",
    )


def run(given: argparse.Namespace) -> int:
    """Run a plan; return the exit code."""
    from crkd.evaluation.steps import parse_plan

    sizes = parse_plan(given.plan)
    check_resume(given)
    if given.features is not None:
        return _run_on_vectors(given, sizes)
    config = config_of(given)

    from crkd.data.splits.sessions import parse_session
    from crkd.runs.search import free_folder
    from crkd.stages.incremental import run_plan

    mixed = None if given.session is None else parse_session(given.session)
    default = RUNS / f"{config.dataset}-{given.plan}" / f"{given.method}-seed{config.seed}"
    out = Path(given.out) if given.out else free_folder(default)
    try:
        metrics = run_plan(
            config,
            sizes,
            out,
            method=given.method,
            mixed=mixed,
            resume=given.resume,
            download=given.download,
        )
    except KeyboardInterrupt as stop:
        raise interrupted_plan(stop, out) from None
    show(metrics)
    print(f"plan: {out}")
    return 0


def _run_on_vectors(given: argparse.Namespace, sizes: tuple[int, ...]) -> int:
    from crkd.commands.discover.vectors import vector_run_folder
    from crkd.data.splits.sessions import parse_session
    from crkd.stages.vectors.plan import run_vector_plan

    refuse_with_features(given, ("mixed",))
    mixed = None if given.session is None else parse_session(given.session)
    config = config_of(given, more={"dataset": "features", "data": {"features": given.features}})
    out = vector_run_folder(given, config.seed, f"{given.plan}-{given.method}")
    try:
        metrics = run_vector_plan(
            config, sizes, out, method=given.method, mixed=mixed, resume=given.resume
        )
    except KeyboardInterrupt as stop:
        raise interrupted_plan(stop, out) from None
    show(metrics)
    print(f"plan: {out}")
    return 0


def interrupted_plan(stop: KeyboardInterrupt, out: Path) -> KeyboardInterrupt:
    """Return the interruption of a plan, which names its folder where the plan has begun.

    Args:
        stop: the interruption of one of its stages, or between two of them.
        out: the folder of the plan.
    """
    from crkd.training.interruption import Interrupted

    if isinstance(stop, Interrupted):
        return Interrupted(stop.progress, out)
    begun = (out / "metrics.json").is_file()
    return Interrupted("stopped between two stages", out) if begun else stop


def show(metrics: dict[str, Any]) -> None:
    """Print the accuracy on every class group after each step."""
    from rich.console import Console
    from rich.table import Table

    sizes, steps = metrics["plan"], metrics["steps"]
    table = Table(title="accuracy on test images (%), task-agnostic")
    table.add_column("after")
    for name in ("all", "old", "new"):
        table.add_column(name, justify="right", style="bold" if name == "all" else None)
    shown = sizes if len(sizes) <= MOST_GROUPS else []
    for number, size in enumerate(shown):
        origin = "labeled" if number == 0 else f"step {number}"
        table.add_column(f"{size} {origin}", justify="right")
    for number, step in enumerate(steps):
        groups = [*step["groups"], *[None] * (len(sizes) - len(step["groups"]))][: len(shown)]
        cells = [_percent(value) for value in (*step["acc"].values(), *groups)]
        table.add_row("stage 1" if number == 0 else f"step {number}", *cells)
    if shown:
        table.add_section()
        lost = [*metrics["forgetting"], None]
        table.add_row("forgetting", "", "", "", *(_percent(value) for value in lost))
    console = Console()
    console.print(table)
    if "hungarian" in steps[0]:
        console.print(_hungarian_table(metrics))


def _hungarian_table(metrics: dict[str, Any]) -> Table:
    """Return All, Old and New under one matching after each session, and what they sum up to."""
    from rich.table import Table

    table = Table(title="accuracy on test images (%), joint Hungarian")
    table.add_column("after")
    for name in ("all", "old", "new", "seen", "unseen"):
        table.add_column(name, justify="right", style="bold" if name == "all" else None)
    for number, step in enumerate(metrics["steps"]):
        cells = [_percent(step["hungarian"][name]) for name in step["hungarian"]]
        table.add_row("base session" if number == 0 else f"session {number}", *cells)
    table.caption = (
        "old: base classes; seen: all classes of earlier sessions. "
        f"M_f (largest drop of the base classes) {_percent(metrics['max_forgetting'])}, "
        f"M_d (mean of unseen) {_percent(metrics['mean_discovery'])}"
    )
    return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"

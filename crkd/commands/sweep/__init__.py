"""``crkd sweep``: a grid of configurations and seeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crkd.commands.flags import add_data_root_flag, add_download_flag, add_set_flag
from crkd.commands.output import RUNS
from crkd.core.counted import counted
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from crkd.stages.sweep.file import Sweep
    from crkd.stages.sweep.jobs import Job
    from crkd.stages.sweep.run import SweepResult

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DESCRIPTION = """\
Run a grid of configurations, each with several seeds, and compare them. The
YAML file names methods, settings, a grid and seeds. Runs share every stage 1
that they have in common.

The same command continues an interrupted sweep and keeps its finished runs. A
run that fails does not stop the others; the exit code is then 1. The folder
of the sweep gets result.json, result.csv and result.tex.

  crkd sweep digits --dry-run
  crkd sweep digits --devices cpu
  crkd sweep my-grid.yaml --devices cuda:0,cuda:1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help="YAML file, or the name of a shipped sweep")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the runs and the expected time, run none"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the sweep (default: runs/sweeps/NAME)"
    )
    parser.add_argument(
        "--devices",
        metavar="NAME,...",
        default="auto",
        help="devices that work at the same time, such as cuda:0,cuda:1; a device that is named "
        "twice runs two at a time (default: auto)",
    )
    add_set_flag(parser, "change one configuration key of every run")
    add_data_root_flag(parser)
    add_download_flag(parser)


def run(given: argparse.Namespace) -> int:
    """Run a sweep; return the exit code."""
    from crkd.stages.sweep.file import find_sweep, load_sweep
    from crkd.stages.sweep.jobs import check_recipes, jobs_of
    from crkd.stages.sweep.run import run_sweep

    devices = [name.strip() for name in given.devices.split(",")]
    if not all(devices):
        raise InputError(
            f"--devices {given.devices!r} has an empty name; separate names with single commas"
        )
    file = find_sweep(given.file)
    sweep = load_sweep(file, commands(), given.settings, given.data_root)
    place = Path(given.out) if given.out else RUNS / "sweeps" / sweep.name
    check_recipes(sweep, place)
    print_plan(sweep, jobs_of(sweep, place), devices)
    if given.dry_run:
        return 0
    result = run_sweep(
        sweep,
        place,
        devices=devices,
        download=given.download,
        say=lambda line: print(line, file=sys.stderr),
    )
    return report(result, place)


def commands() -> dict[str, Sequence[str]]:
    """Return the verbs that a sweep can run, each with the names that may follow it."""
    from crkd.commands.verbs import parsers
    from crkd.stages.incremental import METHODS

    positional = (a for a in parsers("baseline")[1]["baseline"]._actions if not a.option_strings)
    baselines = [str(choice) for action in positional for choice in action.choices or ()]
    return {"discover": (), "pretrain": (), "baseline": baselines, "increments": METHODS}


def print_plan(sweep: Sweep, jobs: Sequence[Job], devices: Sequence[str]) -> None:
    """Print the configurations, the number of runs and the expected time."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from crkd.runs.console import format_duration
    from crkd.stages.sweep.jobs import estimate, unfinished

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("configuration", overflow="fold")
    table.add_column("command", overflow="fold")
    table.add_column("runs", justify="right")
    table.add_column("complete", justify="right")
    done = [job for job in jobs if job.state() == "complete"]
    for entry in sweep.configurations:
        mine = [job for job in jobs if job.group == entry.name]
        words = " ".join([*entry.run, *filter(None, [entry.plan])])
        complete = sum(job in done for job in mine)
        table.add_row(Text(entry.name), words, str(len(mine)), str(complete))
    Console().print(table)
    left = unfinished(jobs)
    shared = sum(job.group is None for job in left)
    runs = len(sweep.configurations) * len(sweep.seeds)
    stages = f", and {counted(shared, 'shared run')} of stage 1" if shared else ""
    print(
        f"{counted(len(sweep.configurations), 'configuration')} x "
        f"{counted(len(sweep.seeds), 'seed')} = {counted(runs, 'run')}; "
        f"{len(left) - shared} to do{stages}"
    )
    seconds = estimate(left, done)
    if seconds is not None and left:
        print(f"expected time: about {format_duration(seconds / len(devices))}")
    elif left:
        print("expected time: not known before the first run of each command")


def report(result: SweepResult, place: Path) -> int:
    """Print the tables and what is missing; return the exit code."""
    from rich.console import Console

    from crkd.commands.compare import print_groups
    from crkd.stages.reproduce import RESULT

    if result.groups:
        print_groups(Console(), result.groups)
        print(f"result: {place / RESULT}")
    for job in result.failed:
        print(f"crkd sweep: {job.name} failed; its output is in {job.log}", file=sys.stderr)
    waiting = [job for job in result.left if job.group is not None]
    if result.stopped:
        print(
            f"crkd sweep: stopped with {len(waiting)} of {result.total} runs left; the same "
            "command continues",
            file=sys.stderr,
        )
        return 130
    if result.failed and waiting:
        runs = counted(len(waiting), "run needs", "runs need")
        print(f"crkd sweep: {runs} a run that failed", file=sys.stderr)
    return int(bool(result.failed))
